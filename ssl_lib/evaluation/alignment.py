"""Label-free metrics on the unit sphere: alignment, uniformity, feature standard deviation and view distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_lib.evaluation.checks import matrix
from ssl_lib.utils.rows import unit_rows

__all__ = ["alignment", "feature_std", "uniformity", "view_distance"]


@torch.no_grad()
def alignment(x: Tensor, y: Tensor) -> float:
    """Mean squared distance between the two views of an image, on the unit sphere.

    Source: Wang and Isola 2020 (arXiv:2005.10242, section 4.1, alpha = 2).

    Args:
        x: (N, D), first views. The rows are normalized to unit length, in float64.
        y: (N, D), second views of the same images.

    Returns:
        A value in [0, 4]: 0 if the views are identical, about 2 if they are unrelated.

    Raises:
        ValueError: The inputs are not two finite float matrices of the same shape.
    """
    x, y = _unit_pair(x, y)
    return (x - y).square().sum(1).mean().item()


@torch.no_grad()
def uniformity(x: Tensor) -> float:
    """Log of the mean of exp(-2 d^2) over the distances d of all pairs of images, on the unit sphere.

    Source: Wang and Isola 2020 (arXiv:2005.10242, section 4.1, t = 2).

    Args:
        x: (N, D), N >= 2. The rows are normalized to unit length, in float64.

    Returns:
        A value in [-8, 0]: 0 if all images have the same features, near -4 if the features are spread evenly over a
        high-dimensional sphere.

    Raises:
        ValueError: The features are not a finite float matrix (N, D), or N is 1.
    """
    x = _unit(x)
    if len(x) < 2:
        raise ValueError(f"uniformity compares pairs of images: pass at least two rows, got {len(x)}")
    rows = max(1, 2**24 // len(x))  # limits the block of distances to 128 MiB
    total = x.new_zeros(())
    for start in range(0, len(x), rows):
        squares = 2 - 2 * x[start : start + rows] @ x.T
        squares.diagonal(start).fill_(math.inf)  # exclude the pair of a row with itself
        total += squares.mul_(-2).exp_().sum()
    return (total / (len(x) * (len(x) - 1))).log().clamp_max(0.0).item()


@torch.no_grad()
def feature_std(x: Tensor) -> float:
    """Standard deviation of the unit-length features, averaged over dimensions.

    Source: SimSiam (Chen and He 2020, arXiv:2011.10566, section 4.1). It is 1 / sqrt(D) if the features are spread
    evenly, and 0 if they have collapsed to one point. The standard deviation is biased: it divides by N, not by N - 1.

    Args:
        x: (N, D). The rows are normalized to unit length, in float64.

    Returns:
        A value in [0, 1 / sqrt(D)].

    Raises:
        ValueError: The features are not a finite float matrix (N, D).
    """
    return _unit(x).std(0, correction=0).mean().item()


@torch.no_grad()
def view_distance(x: Tensor, y: Tensor) -> float:
    """Mean squared distance between an image's two views, divided by the distance between views of different images.

    This is `alignment` relative to the spread of the features, so it distinguishes views that agree from features
    that have collapsed.

    Args:
        x: (N, D), first views. The rows are normalized to unit length, in float64.
        y: (N, D), second views of the same images; N >= 2.

    Returns:
        From 0 if the views are identical to about 1 if views of the same image are as far apart as views of
        different images. Also 0 if all features are equal.

    Raises:
        ValueError: The inputs are not two finite float matrices of the same shape, or N is 1.
    """
    x, y = _unit_pair(x, y)
    if len(x) < 2:
        raise ValueError(f"view_distance compares pairs of images: pass at least two rows, got {len(x)}")
    same = (x - y).square().sum(1).mean()
    everything = 2 - 2 * x.mean(0) @ y.mean(0)  # mean over all pairs (i, j), including i == j
    other = (len(x) * everything - same) / (len(x) - 1)
    return (same / other).item() if other > 1e-12 else 0.0


def _unit(x: Tensor, name: str = "features") -> Tensor:
    return unit_rows(matrix(x, name))


def _unit_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape != y.shape:
        raise ValueError(f"the two views must have the same shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    return _unit(x, "first views"), _unit(y, "second views")
