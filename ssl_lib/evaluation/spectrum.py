"""Label-free spectral metrics of features (RankMe, effective rank, alpha-ReQ, LiDAR) and the protocol `spectrum`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssl_lib.evaluation.alignment import alignment, feature_std, uniformity, view_distance
from ssl_lib.evaluation.base import EvaluatedEncoder, Scores, check_at_least, draw
from ssl_lib.evaluation.checks import matrix
from ssl_lib.evaluation.eigenvalues import singular_values, variances
from ssl_lib.evaluation.features import view_features
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric
from ssl_lib.utils.rows import check_finite

__all__ = ["Spectrum", "alpha_req", "effective_rank", "explained_variance", "lidar", "rankme"]

_EPS = 1e-7


@PROTOCOLS.register("spectrum")
@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Label-free metrics of the training images' features: effective dimension, uniformity and distance of views.

    Each metric is also a function, whose docstring names the source: `rankme`, `effective_rank`, `alpha_req`,
    `feature_std` and `uniformity`. If the views of the run are known, `lidar`, `alignment` and `view_distance` are
    computed from its large views.

    Attributes:
        images: Maximum number of training images, a fixed random subset.
        view_images: Maximum number of training images to create views of; the LiDAR paper uses 1,000. 0 disables the
            metrics of views.
        views: Number of views per image, at least 2; the LiDAR paper uses 50.
        seed: Seed for the views.
    """

    needs_labels: ClassVar[bool] = False
    images: int = 10_000
    view_images: int = 1000
    views: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(2, self, "images", "views")
        check_at_least(0, self, "view_images")

    @property
    def measures(self) -> Sequence[Metric]:
        """All metrics; RankMe is the main metric."""
        metrics = [
            Metric("rankme", "RankMe", percent=False),
            Metric("effective_rank", "effective rank", percent=False, main=False),
            Metric("alpha_req", "alpha-ReQ", percent=False, main=False, digits=2),
            Metric("feature_std", "feature std", percent=False, main=False, digits=4),
            Metric("uniformity", "uniformity", percent=False, main=False, digits=2),
        ]
        view_metrics = [
            Metric("lidar", "LiDAR", percent=False, main=False),
            Metric("alignment", "alignment of views", percent=False, main=False, digits=3),
            Metric("view_distance", "distance of views", percent=False, main=False, digits=3),
        ]
        return [*metrics, *(view_metrics if self.view_images else [])]

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError for a single training image."""
        if len(bank_labels) < 2:
            raise ValueError(f"spectrum needs at least two training images, got {len(bank_labels)}")

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Returns the metrics; those that do not exist are left out, with the reason in the details.

        Raises:
            ValueError: Features are NaN or infinite, or an eigenvalue solver fails.
        """
        bank = subject.bank_features
        x = bank[draw(len(bank), self.images)].to(subject.device)
        values = {metric.__name__: metric(x) for metric in (rankme, effective_rank, alpha_req, feature_std, uniformity)}
        details: dict[str, Any] = {"images": len(x), "dim": x.shape[1]}
        if subject.views is not None and self.view_images:
            places = subject.bank_places[draw(len(subject.bank_places), self.view_images)]
            views = view_features(
                subject.encoder,
                subject.bank,
                subject.views,
                self.views,
                indices=places,
                seed=self.seed,
                title=f"{subject.title}: views",
            ).to(subject.device)
            details |= {"view_images": views.shape[0], "views": views.shape[1]}
            if len(views) > 1:
                pair = views[:, 0], views[:, 1]
                values |= {"lidar": lidar(views), "alignment": alignment(*pair)}
                values["view_distance"] = view_distance(*pair)
        if math.isinf(values["alpha_req"]):
            del values["alpha_req"]
            details["left_out"] = {"alpha_req": "infinite: the features vary along at most one direction"}
        return Scores(values, details)


@torch.no_grad()
def rankme(features: Tensor) -> float:
    """RankMe: a smooth rank of the features, the exponential of the entropy of their singular values.

    Source: Garrido et al. 2023 (arXiv:2210.02885, section 3, equation 1): the singular values are normalized to sum to
    1, and 1e-7 is added to each. The features are not centered. The paper uses 25,600 images.

    Args:
        features: (N, D), N, D >= 1; computed in float64.

    Returns:
        From 1 (all images have the same features) to min(N, D); higher is better among runs of the same method.

    Raises:
        ValueError: The features are not a finite float matrix (N, D), or no eigenvalue solver converges.
    """
    return _exp_entropy(singular_values(matrix(features)), _EPS)


@torch.no_grad()
def effective_rank(features: Tensor) -> float:
    """Effective rank of the covariance: the exponential of the entropy of its normalized eigenvalues.

    Jing et al. 2022 (arXiv:2110.09348, section 4) use this spectrum to detect dimensional collapse. The entropy follows
    Roy and Vetterli 2007 ("The effective rank"). Unlike RankMe, it does not count the mean of the features as a
    direction.

    Args:
        features: (N, D), N, D >= 1; computed in float64.

    Returns:
        From 1 to min(N - 1, D); also 1 if all features are equal.

    Raises:
        ValueError: The features are not a finite float matrix (N, D), or no eigenvalue solver converges.
    """
    return _exp_entropy(variances(matrix(features)))


@torch.no_grad()
def explained_variance(features: Tensor) -> Tensor:
    """Fraction of the variance explained by each principal component, in descending order.

    Jing et al. 2022 (arXiv:2110.09348, section 4) use this spectrum to detect dimensional collapse. The values equal
    scikit-learn's `PCA().fit(features).explained_variance_ratio_`.

    Args:
        features: (N, D), N, D >= 1; computed in float64.

    Returns:
        (min(N, D),) fractions that sum to 1; zeros if all features are equal.

    Raises:
        ValueError: The features are not a finite float matrix (N, D), or no eigenvalue solver converges.
    """
    values = variances(matrix(features))
    return values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)


@torch.no_grad()
def alpha_req(features: Tensor) -> float:
    """alpha-ReQ: exponent of the power-law decay of the covariance eigenvalues.

    Source: Agrawal et al. 2022 ("alpha-ReQ", NeurIPS, section 3): the eigenvalues follow i ** -alpha. Here alpha is the
    negative least-squares slope of log eigenvalue over log i, for eigenvalues above 1e-10 times the largest.

    Args:
        features: (N, D), N >= 2; computed in float64.

    Returns:
        About 0 for white noise, near 1 for good features, higher if few directions hold most of the variance; infinity
        if fewer than two eigenvalues are left.

    Raises:
        ValueError: The features are not a finite float matrix (N, D), or no eigenvalue solver converges.
    """
    values = variances(matrix(features))
    values = values[(values > 1e-10 * values[:1]) & (values > 0)]
    if len(values) < 2:
        return math.inf
    ranks = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device).log()
    ranks = ranks - ranks.mean()
    return float(-(ranks @ values.log()) / (ranks @ ranks))


@torch.no_grad()
def lidar(features_by_object: Tensor) -> float:
    """LiDAR: effective rank of the linear discriminant analysis matrix of objects (images) and their views.

    Source: Thilak et al. 2023 (arXiv:2312.04000, section 4): the exponential of the entropy of the eigenvalues of
    Sw^-1/2 Sb Sw^-1/2, normalized to sum to 1, plus 1e-7 each. Sb is the covariance of the object means, Sw is the
    covariance of the views around their object mean plus 1e-4 on the diagonal; both are unbiased. The paper uses 1,000
    images with 50 views each. Only directions in which objects differ more than views of an object count.

    Args:
        features_by_object: (objects, views, D), at least two objects and two views; computed in float64.

    Returns:
        From 1 to min(objects - 1, D); higher is better.

    Raises:
        ValueError: The input is not a finite float tensor (objects, views, D), has too few objects or views, or no
            eigenvalue solver converges.
    """
    x = features_by_object
    if x.ndim != 3 or not x.is_floating_point() or min(x.shape[:2]) < 2 or not x.shape[2]:
        raise ValueError(
            "features must be floats (objects, views, D) with at least two objects and two views, "
            f"got {x.dtype} of shape {tuple(x.shape)}"
        )
    check_finite("features (objects, views, D)", x)
    x = x.double()
    objects, views, dim = x.shape
    means = x.mean(1)  # (objects, D)
    between = (means - means.mean(0)) / (objects - 1) ** 0.5
    within = (x - means.unsqueeze(1)).flatten(0, 1) / (objects * (views - 1)) ** 0.5
    scatter = within.T @ within + 1e-4 * torch.eye(dim, dtype=x.dtype, device=x.device)
    # With Sw = L L^T, the eigenvalues equal those of (L^-1 B^T) (L^-1 B^T)^T, where Sb = B^T B.
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(scatter), between.T, upper=False)
    values = singular_values(whitened).square()
    return _exp_entropy(torch.cat([values, values.new_zeros(dim - len(values))]), _EPS)


def _exp_entropy(values: Tensor, eps: float = 0.0) -> float:
    """Exponential of the entropy of the values, normalized to sum to 1; 1 if all values are zero."""
    total = values.sum()
    if total == 0:
        return 1.0
    probabilities = values / total + eps
    return float(torch.special.entr(probabilities).sum().exp())
