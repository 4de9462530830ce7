"""What features tell about themselves, without labels: the directions they use, and the protocol that measures it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lib.evaluation.alignment import alignment, feature_std, matrix, uniformity, view_distance
from ssl_lib.evaluation.base import EvaluatedEncoder, Scores, draw
from ssl_lib.evaluation.features import view_features
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric

__all__ = ["Spectrum", "alpha_req", "effective_rank", "explained_variance", "lidar", "rankme"]

_EPS = 1e-7


@PROTOCOLS.register("spectrum")
@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """How many directions the training images' features use, how evenly they spread, how near an image's views are.

    Each figure is a function of its own, with its source: `rankme`, `effective_rank`, `alpha_req`, `feature_std`,
    `uniformity`; and of the run's own large views, where they are known, `lidar`, `alignment` and `view_distance`.

    Attributes:
        images: Training images to take at most, always the same ones.
        view_images: Of those, to make views of at most; LiDAR's paper takes 1,000. 0 makes no views.
        views: Of each, at least 2; LiDAR's paper takes 50.
        seed: Of the views.
    """

    images: int = 10_000
    view_images: int = 1000
    views: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("images", 2), ("view_images", 0), ("views", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    @property
    def measures(self) -> Sequence[Metric]:
        """RankMe is its own figure."""
        figures = [
            Metric("rankme", "RankMe", percent=False),
            Metric("effective_rank", "effective rank", percent=False, main=False),
            Metric("alpha_req", "alpha-ReQ", percent=False, main=False, digits=2),
            Metric("feature_std", "feature std", percent=False, main=False, digits=4),
            Metric("uniformity", "uniformity", percent=False, main=False, digits=2),
        ]
        of_views = [
            Metric("lidar", "LiDAR", percent=False, main=False),
            Metric("alignment", "alignment of views", percent=False, main=False, digits=3),
            Metric("view_distance", "distance of views", percent=False, main=False, digits=3),
        ]
        return [*figures, *(of_views if self.view_images else [])]

    def check(self, bank_labels: Tensor) -> None:
        """Refuses a single image."""
        if len(bank_labels) < 2:
            raise ValueError("spectrum needs two training images at least")

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """The figures; an alpha-ReQ without an end, of features in one direction, is left out."""
        bank = subject.features.bank
        x = bank if (chosen := draw(len(bank), self.images)) is None else bank[chosen]
        x = x.to(subject.device)
        measured = (rankme, effective_rank, alpha_req, feature_std, uniformity)
        values = {measure.__name__: measure(x) for measure in measured}
        details: dict[str, int] = {"images": len(x), "dim": x.shape[1]}
        if subject.views is not None and self.view_images:
            of_views = self._of_views(subject)
            details |= {"view_images": of_views.shape[0], "views": of_views.shape[1]}
            if len(of_views) > 1:
                pair = of_views[:, 0], of_views[:, 1]
                values |= {"lidar": lidar(of_views), "alignment": alignment(*pair)}
                values["view_distance"] = view_distance(*pair)
        return Scores({key: value for key, value in values.items() if math.isfinite(value)}, details)

    def _of_views(self, subject: EvaluatedEncoder) -> Tensor:
        """(images, views, D)."""
        assert subject.views is not None
        places = subject.bank_places
        chosen = draw(len(places), self.view_images)
        return view_features(
            subject.encoder,
            subject.bank,
            subject.views,
            self.views,
            indices=places if chosen is None else places[chosen],
            seed=self.seed,
            title=f"{subject.title}: views",
        ).to(subject.device)


@torch.no_grad()
def rankme(features: Tensor) -> float:
    """RankMe: the number of directions that the features use, weighed by their singular values.

    Source: Garrido et al. 2023 (arXiv:2210.02885, section 3, equation 1): the exponential of the entropy of the
    singular values, normalized to sum 1, plus 1e-7 each. The features are not centerd. The paper takes 25,600 images.

    Args:
        features: (N, D), N and D at least 1; computed in float64.

    Returns:
        From 1, where all images are alike, to min(N, D); more is better among runs of one method.

    Raises:
        ValueError: The features are no (N, D).
    """
    return _exp_entropy(torch.linalg.svdvals(matrix(features)), _EPS)


@torch.no_grad()
def effective_rank(features: Tensor) -> float:
    """The number of directions in which the features vary: the exponential of the entropy of their variances.

    The variances are the eigenvalues of the covariance, the spectrum in which Jing et al. 2022 (arXiv:2110.09348,
    section 4) see dimensional collapse; their entropy as Roy and Vetterli 2007 ("The effective rank") take it. Unlike
    RankMe it does not count the mean of all features as a direction.

    Args:
        features: (N, D), N and D at least 1; computed in float64.

    Returns:
        From 1 to min(N - 1, D); 1 too where all features are the same.

    Raises:
        ValueError: The features are no (N, D).
    """
    return _exp_entropy(_variances(matrix(features)))


@torch.no_grad()
def explained_variance(features: Tensor) -> Tensor:
    """The spectrum of the features: each principal direction's share of their variance, the largest first.

    The spectrum in which Jing et al. 2022 (arXiv:2110.09348, section 4) see dimensional collapse; scikit-learn's
    `PCA().fit(features).explained_variance_ratio_`.

    Args:
        features: (N, D), N and D at least 1; computed in float64.

    Returns:
        (min(N, D),), which sum to 1; zeros where all features are the same.

    Raises:
        ValueError: The features are no (N, D).
    """
    values = _variances(matrix(features))
    return values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)


@torch.no_grad()
def alpha_req(features: Tensor) -> float:
    """alpha-ReQ: how fast the spectrum of the features falls, as the exponent of a power law.

    Source: Agrawal et al. 2022 ("alpha-ReQ", NeurIPS, section 3): the eigenvalues of the covariance follow i ** -alpha;
    here alpha is the least-squares slope of their logarithms over log i, over those above 1e-10 of the largest.

    Args:
        features: (N, D), N at least 2; computed in float64.

    Returns:
        About 0 for white noise, near 1 for good features, above it where few directions hold nearly everything;
        infinity where there are fewer than two.

    Raises:
        ValueError: The features are no (N, D).
    """
    values = _variances(matrix(features))
    values = values[(values > 1e-10 * values[:1]) & (values > 0)]
    if len(values) < 2:
        return math.inf
    ranks = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device).log()
    ranks = ranks - ranks.mean()
    return float(-(ranks @ values.log()) / (ranks @ ranks))


@torch.no_grad()
def lidar(features_by_object: Tensor) -> float:
    """LiDAR: the number of directions in which objects differ by more than the views of one object do.

    Source: Thilak et al. 2023 (arXiv:2312.04000, section 4): the exponential of the entropy of the eigenvalues of
    Sw^-1/2 Sb Sw^-1/2, normalized to sum 1, plus 1e-7 each; Sb is the covariance of the objects' means, Sw that of the
    views about them plus 1e-4 on its diagonal, both unbiased. The paper takes 1,000 images, each in 50 views.

    Args:
        features_by_object: (objects, views, D), two of each at least; computed in float64.

    Returns:
        From 1 to min(objects - 1, D); more is better.

    Raises:
        ValueError: The shape is another, or there are too few objects or views.
    """
    x = features_by_object
    if x.ndim != 3 or not x.is_floating_point() or min(x.shape[:2]) < 2 or not x.shape[2]:
        raise ValueError(f"features must be floats (objects, views, D), two of each at least; got {tuple(x.shape)}")
    x = x.double()
    objects, views, dim = x.shape
    means = x.mean(1)  # (objects, D)
    between = (means - means.mean(0)) / (objects - 1) ** 0.5
    within = (x - means.unsqueeze(1)).flatten(0, 1) / (objects * (views - 1)) ** 0.5
    scatter = within.T @ within + 1e-4 * torch.eye(dim, dtype=x.dtype, device=x.device)
    # With Sw = L L^T, the eigenvalues are those of (L^-1 B^T) (L^-1 B^T)^T, where Sb = B^T B.
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(scatter), between.T, upper=False)
    values = torch.linalg.svdvals(whitened).square()
    return _exp_entropy(torch.cat([values, values.new_zeros(dim - len(values))]), _EPS)


def _exp_entropy(values: Tensor, eps: float = 0.0) -> float:
    """The number of equal values that would have the entropy of these, once they sum to 1."""
    total = values.sum()
    if not total > 0:
        return 1.0
    shares = values / total + eps
    return float(torch.special.entr(shares).sum().exp())


def _variances(features: Tensor) -> Tensor:
    """The covariance's eigenvalues times N, the largest first, by the smaller of the two Gram matrices."""
    x = features - features.mean(0)
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    values: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0.0)
    return values
