"""VICReg loss: variance, invariance and covariance regularization; VCReg: without invariance."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lib.distributed import all_reduce_sum, batch_center, gather, rank, world_size
from ssl_lib.losses._common import check_pair, check_positive, check_weight, upcast, without_autocast
from ssl_lib.registry import REGULARIZERS

__all__ = ["VCRegLoss", "VICRegLoss", "variance_and_covariance"]


class VICRegLoss(nn.Module):
    """Weighted sum of an invariance, a variance and a covariance term.

    Source: Bardes et al. 2021 (arXiv:2105.04906, equations 1 to 6); facebookresearch/vicreg, main_vicreg.py. Like
    the repository but unlike the paper, the variance term is averaged over the two views. Variances and covariances
    are unbiased and computed over the global batch of all processes.

    Garrido et al. 2022 (arXiv:2206.02574, equations 11 to 13; no public code) define two other covariance terms:
    VICReg-exp, the mean over dimensions of the log of the sum of exp(covariance / temperature) with all other
    dimensions; and VICReg-ctr, which is VICReg-exp of the transposed embeddings, so that the variance is the variance
    within each embedding and images are contrasted. The embeddings are still centered over the batch before.

    Args:
        invariance_weight: Weight of the mean squared difference between the two views, >= 0.
        variance_weight: Weight of the hinge loss that keeps the standard deviation of each dimension above 1, >= 0.
        covariance_weight: Weight of the covariance term, >= 0.
        eps: Added to the variance before the square root, > 0.
        covariance: The covariance term: "square" for squared covariances, "exp" for VICReg-exp, "ctr" for VICReg-ctr.
        temperature: Divides the covariances of "exp" and "ctr", > 0.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        eps: float = 1e-4,
        covariance: Literal["square", "exp", "ctr"] = "square",
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        check_weight("invariance_weight", invariance_weight)
        check_weight("variance_weight", variance_weight)
        check_weight("covariance_weight", covariance_weight)
        check_positive("eps", eps)
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        self.eps = eps
        if covariance not in ("square", "exp", "ctr"):
            raise ValueError(f"covariance must be 'square', 'exp' or 'ctr', got {covariance!r}")
        check_positive("temperature", temperature)
        self.covariance, self.temperature = covariance, temperature

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Computes the loss from the embeddings of two views, both (N, D).

        Returns:
            Scalar: the weighted sum of the mean squared difference, the hinge averaged over dimensions and views, and
            the covariance term, summed over both views. The squared off-diagonal covariances are divided by D.

        Raises:
            ValueError: The views are not float matrices of the same shape, the global batch has fewer than 2 images, or
                VICReg-exp or VICReg-ctr gets embeddings with a single dimension.
        """
        check_pair(z_a, z_b)
        with without_autocast(z_a):
            z_a, z_b = upcast(z_a, z_b)
            invariance = F.mse_loss(z_a, z_b)
            hinge_a, covariance_a = self._regularization(z_a)
            hinge_b, covariance_b = self._regularization(z_b)
            return (
                self.invariance_weight * invariance
                + self.variance_weight * (hinge_a + hinge_b) / 2
                + self.covariance_weight * (covariance_a + covariance_b)
            )

    def _regularization(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if self.covariance == "square":
            return variance_and_covariance(z, self.eps)
        if z.shape[1] < 2:
            raise ValueError(f"VICReg-{self.covariance} needs at least 2 dimensions, got {z.shape[1]}")
        return _exponential(z, self.eps, self.temperature, transpose=self.covariance == "ctr")


@REGULARIZERS.register("vcreg")
class VCRegLoss(nn.Module):
    """The variance and covariance terms of VICReg for one batch of features.

    Source: Zhu et al. 2023 (arXiv:2306.13292, equations 2 and 3).

    Args:
        variance_weight: Weight of the hinge loss, >= 0.
        covariance_weight: Weight of the squared covariances, >= 0.
        eps: Added to the variance before the square root, > 0.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, variance_weight: float = 1.0, covariance_weight: float = 1.0, eps: float = 1e-4) -> None:
        super().__init__()
        check_weight("variance_weight", variance_weight)
        check_weight("covariance_weight", covariance_weight)
        check_positive("eps", eps)
        self.variance_weight, self.covariance_weight, self.eps = variance_weight, covariance_weight, eps

    def forward(self, features: Tensor) -> Tensor:
        """Computes the weighted sum of both terms, a scalar >= 0, of features (N, D).

        Raises:
            ValueError: The features are not a float matrix, or the global batch has fewer than 2 images.
        """
        check_pair(features, features, ("features", "features"))
        with without_autocast(features):
            hinge, covariance = variance_and_covariance(upcast(features)[0], self.eps)
            return self.variance_weight * hinge + self.covariance_weight * covariance


def variance_and_covariance(z: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The hinge and covariance terms of one view's embeddings (N, D), over the global batch."""
    z = batch_center(z)
    covariance = all_reduce_sum(z.T @ z) / (world_size() * len(z) - 1)  # (D, D)
    hinge = F.relu(1.0 - (covariance.diagonal() + eps).sqrt()).mean()
    return hinge, covariance.fill_diagonal_(0.0).square().sum() / z.shape[1]


def _exponential(z: Tensor, eps: float, temperature: float, transpose: bool) -> tuple[Tensor, Tensor]:
    """The hinge and the log-sum-exp of the covariances between dimensions; `transpose`: between images."""
    z = batch_center(z)
    if transpose:
        z = z - z.mean(1, keepdim=True)
        covariance, own = z @ gather(z).T / (z.shape[1] - 1), rank() * len(z)  # (N, world_size * N)
    else:
        covariance, own = all_reduce_sum(z.T @ z) / (world_size() * len(z) - 1), 0  # (D, D)
    hinge = F.relu(1.0 - (covariance.diagonal(own) + eps).sqrt()).mean()
    scores = covariance / temperature
    scores.diagonal(own).fill_(-math.inf)
    return hinge, scores.logsumexp(1).mean()
