"""DirectCLR loss: InfoNCE of the first dimensions of the representations, without a projector."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_lib.losses._common import check_pair, upcast
from ssl_lib.losses.info_nce import InfoNCELoss

__all__ = ["DirectCLRLoss"]


class DirectCLRLoss(nn.Module):
    """InfoNCE between the first `dim` features of two views, in both directions; negatives are of the other view.

    Source: Jing et al. 2021 (arXiv:2110.09348); facebookresearch/directclr, directclr/main.py. The features
    are normalized after the slice.

    Args:
        dim: Number of features that are compared, >= 1.
        temperature: Divides the cosine similarities, > 0.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, dim: int, temperature: float = 0.1) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.dim, self.info_nce = dim, InfoNCELoss(temperature)

    def forward(self, r_a: Tensor, r_b: Tensor) -> Tensor:
        """Computes the loss from the representations of two views, both (N, F) with F at least `dim`.

        Returns:
            Scalar >= 0, averaged over this process's 2N anchors. Chance level is log(N), with N the global batch.

        Raises:
            ValueError: The views are not float matrices of the same shape with at least `dim` columns, or the global
                batch has fewer than 2 images.
        """
        check_pair(r_a, r_b, ("r_a", "r_b"))
        if r_a.shape[1] < self.dim:
            raise ValueError(f"dim is {self.dim}, but the representations have {r_a.shape[1]} features")
        z_a, z_b = (r[:, : self.dim] for r in upcast(r_a, r_b))
        loss: Tensor = (self.info_nce(z_a, z_b) + self.info_nce(z_b, z_a)) / 2
        return loss
