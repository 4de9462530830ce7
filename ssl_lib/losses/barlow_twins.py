"""Barlow Twins loss: cross-correlation of two views' embeddings compared with the identity."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_lib.distributed import all_reduce_sum, batch_normalize, world_size
from ssl_lib.losses._common import check_pair, check_positive, check_weight, upcast, without_autocast

__all__ = ["BarlowTwinsLoss"]


class BarlowTwinsLoss(nn.Module):
    """Drives the cross-correlation matrix of two views' embeddings to the identity.

    Source: Zbontar et al. 2021 (arXiv:2103.03230, equation 1); facebookresearch/barlowtwins, main.py. Batch
    statistics (biased variance, eps 1e-5) and correlations are computed over the global batch of all processes. With
    `hsic`, the off-diagonal correlations are driven to -1 instead of 0, the form of Tsai et al. 2021 that maximizes the
    Hilbert-Schmidt independence criterion (arXiv:2104.13712; yaohungt/Barlow-Twins-HSIC, main.py, `--corr_neg_one`).

    Args:
        redundancy_weight: Weight of the squared off-diagonal errors, >= 0.
        scale: Factor applied to the whole loss, > 0.
        hsic: Whether the target of the off-diagonal correlations is -1; otherwise it is 0.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, redundancy_weight: float = 0.0051, scale: float = 1.0, hsic: bool = False) -> None:
        super().__init__()
        check_weight("redundancy_weight", redundancy_weight)
        check_positive("scale", scale)
        self.redundancy_weight = redundancy_weight
        self.scale = scale
        self.hsic = hsic

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Computes the loss from the embeddings of two views, both (N, D).

        Returns:
            Scalar >= 0, summed over the entries of the (D, D) correlation matrix.

        Raises:
            ValueError: The views are not float matrices of the same shape, or the global batch has fewer than 2 images.
        """
        check_pair(z_a, z_b)
        with without_autocast(z_a):
            a, b = (batch_normalize(z) for z in upcast(z_a, z_b))
            error = all_reduce_sum(a.T @ b) / (world_size() * len(a))  # (D, D)
            if self.hsic:
                error = error + 1.0
            error.diagonal().sub_(2.0 if self.hsic else 1.0)
            weight = self.redundancy_weight
            on_diagonal, everywhere = error.diagonal().square().sum(), error.square().sum()
            return self.scale * ((1.0 - weight) * on_diagonal + weight * everywhere)
