"""DeepCluster v2 loss: predicts the cluster of an image from its views."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_lib.losses._common import check_positive
from ssl_lib.losses.cross_entropy import cross_entropy

__all__ = ["DeepClusterV2Loss"]


class DeepClusterV2Loss(nn.Module):
    """Cross-entropy between the scores of an image with cluster centroids and its cluster.

    Source: Caron et al. 2020 (arXiv:2006.09882, appendix); facebookresearch/swav, main_deepclusterv2.py.

    Args:
        temperature: Divides the scores, > 0.

    Raises:
        ValueError: The temperature is not positive.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = temperature

    def forward(self, scores: Tensor, assignments: Tensor) -> Tensor:
        """Computes the loss of scores (N, K) and clusters (N,); -100 marks images without a cluster.

        Returns:
            Scalar >= 0, averaged over the images of all processes that have a cluster.

        Raises:
            ValueError: The shapes do not match.
        """
        if scores.ndim != 2 or assignments.shape != scores.shape[:1]:
            raise ValueError(
                f"expected scores (N, K) and clusters (N,), got {tuple(scores.shape)} and {tuple(assignments.shape)}"
            )
        return cross_entropy(scores / self.temperature, assignments)
