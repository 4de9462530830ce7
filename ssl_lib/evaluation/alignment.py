"""Measures without labels: how near the views of an image are, and how far the images spread."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["alignment", "feature_std", "uniformity", "view_distance"]


@torch.no_grad()
def alignment(x: Tensor, y: Tensor) -> float:
    """The mean squared distance between the two views of an image, on the unit sphere.

    Source: Wang and Isola 2020 (arXiv:2005.10242, section 4.1, alpha = 2).

    Args:
        x: (N, D), first views, of any length; normalized here, computed in float64.
        y: (N, D), second views of the same images.

    Returns:
        In [0, 4]: 0 where the views agree, about 2 where they have nothing in common.

    Raises:
        ValueError: The two are no matrices of one shape.
    """
    x, y = _unit_pair(x, y)
    return (x - y).square().sum(1).mean().item()


@torch.no_grad()
def uniformity(x: Tensor) -> float:
    """The logarithm of the mean of exp(-2 d^2) over the distances d of all pairs of images, on the unit sphere.

    Source: Wang and Isola 2020 (arXiv:2005.10242, section 4.1, t = 2).

    Args:
        x: (N, D), N at least 2, of any length; normalized here, computed in float64.

    Returns:
        In [-8, 0]: 0 where all images are alike, near -4 where they spread evenly over a sphere of many dimensions.

    Raises:
        ValueError: The features are no (N, D), or fewer than two.
    """
    x = _unit(x)
    if len(x) < 2:
        raise ValueError("uniformity is of pairs: give it two rows at least")
    rows = max(1, 2**24 // len(x))  # bounds the distances held at a time to 128 MiB
    total = x.new_zeros(())
    for start in range(0, len(x), rows):
        squares = 2 - 2 * x[start : start + rows] @ x.T
        squares.diagonal(start).fill_(math.inf)  # no row is a pair with itself
        total += squares.mul_(-2).exp_().sum()
    return (total / (len(x) * (len(x) - 1))).log().clamp_max(0.0).item()


@torch.no_grad()
def feature_std(x: Tensor) -> float:
    """The standard deviation of the unit-length features, the mean over their dimensions.

    Source: SimSiam (Chen and He 2020, arXiv:2011.10566, section 4.1): 1 / sqrt(D) where the features spread evenly, 0
    where they have collapsed to one point.

    Args:
        x: (N, D), of any length; normalized here, computed in float64.

    Returns:
        In [0, 1 / sqrt(D)].

    Raises:
        ValueError: The features are no (N, D).
    """
    return _unit(x).std(0, correction=0).mean().item()


@torch.no_grad()
def view_distance(x: Tensor, y: Tensor) -> float:
    """The squared distance between two views of an image, as a share of that between views of two images.

    `alignment` in the measure of the features' own spread, so that it tells views that agree from features that have
    collapsed.

    Args:
        x: (N, D), first views, of any length; normalized here, computed in float64.
        y: (N, D), second views of the same images; N at least 2.

    Returns:
        From 0, where the views agree, to about 1, where those of one image are as far apart as those of two; 0 too
        where all features are the same.

    Raises:
        ValueError: The two are no matrices of one shape, or of one row.
    """
    x, y = _unit_pair(x, y)
    if len(x) < 2:
        raise ValueError("view_distance compares images: give it two rows at least")
    same = (x - y).square().sum(1).mean()
    everyone = 2 - 2 * x.mean(0) @ y.mean(0)  # the mean over all (i, j), those of one image included
    other = (len(x) * everyone - same) / (len(x) - 1)
    return (same / other).item() if other > 1e-12 else 0.0


def matrix(features: Tensor) -> Tensor:
    """Features (N, D) in float64; a ValueError where they are none."""
    if features.ndim != 2 or not features.is_floating_point() or not features.numel():
        raise ValueError(f"features must be floats (N, D), got {features.dtype} of shape {tuple(features.shape)}")
    return features.double()


def _unit(x: Tensor) -> Tensor:
    return F.normalize(matrix(x), dim=1)


def _unit_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape != y.shape:
        raise ValueError(f"the two views must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    return _unit(x), _unit(y)
