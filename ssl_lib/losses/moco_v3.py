"""MoCo v3 loss: InfoNCE among the keys of the batch, scaled by twice the temperature."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_lib.losses.info_nce import InfoNCELoss

__all__ = ["MoCoV3Loss"]


class MoCoV3Loss(nn.Module):
    """One direction of the loss of MoCo v3: 2T times the InfoNCE loss of the queries among the keys of all processes.

    Source: Chen et al. 2021 (arXiv:2104.02057, algorithm 1); facebookresearch/moco-v3, moco/builder.py. The factor 2T
    keeps the size of the gradient similar for all temperatures. The method adds both directions.

    Args:
        temperature: Divides the cosine similarities, > 0: 1.0 for ResNets, 0.2 for transformers.

    Raises:
        ValueError: The temperature is out of range.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.info_nce = InfoNCELoss(temperature)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Computes the loss of queries and keys (N, D), row i of both from image i; rows need not be normalized.

        Args:
            query: Predictions of one view.
            key: Teacher's projections of the other view. Gets no gradient.

        Returns:
            Scalar >= 0, averaged over this process's queries. Chance level is 2T log(N), with N the global batch.

        Raises:
            ValueError: Queries and keys are not float matrices of the same shape, or the global batch has fewer than 2
                images.
        """
        loss: Tensor = 2 * self.temperature * self.info_nce(query, key.detach())
        return loss
