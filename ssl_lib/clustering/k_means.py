"""k-means of features, Euclidean and spherical."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lib.utils.rows import check_finite, float_type, part_rows, unit_rows

__all__ = ["k_means", "nearest_center", "spherical_kmeans"]

_FIRST_CENTERS = 2**14  # number of images to draw initial centers from, or 20 per cluster if that is more


@torch.no_grad()
def k_means(
    x: Tensor, clusters: int, generator: torch.Generator, max_steps: int = 100, device: torch.device | None = None
) -> tuple[Tensor, float, int]:
    """Lloyd's algorithm with k-means++ initialization (Arthur and Vassilvitskii 2007).

    Initial centers are drawn from 16,384 images, or 20 per cluster if that is more. The center of an empty cluster
    moves to the image farthest from its own center. The algorithm stops when no image changes its cluster.

    Args:
        x: (N, D). It stays on its device and is moved to `device` in chunks.
        clusters: Number of clusters, at most N.
        generator: A CPU generator.
        max_steps: Maximum number of iterations, at least 1.
        device: Device to compute on; None uses the device of x.

    Returns:
        Centers (clusters, D) on the device, the mean squared distance to the nearest center, and the number of
        iterations.

    Raises:
        ValueError: There are more clusters than images, or x is NaN or infinite, or its squares overflow or underflow.
    """
    if not 1 <= clusters <= len(x):
        raise ValueError(f"clusters must be in [1, {len(x)}] (at most the number of images), got {clusters}")
    _check_range(x)
    few = torch.randperm(len(x), generator=generator)[: max(_FIRST_CENTERS, 20 * clusters)]
    centers = _first_centers(x[few].to(device or x.device, float_type(x)), clusters, generator)
    assigned, squares = nearest_center(x, centers)
    steps, moved = 0, True
    while moved and steps < max_steps:
        before, steps = assigned, steps + 1
        centers = _means(x, assigned, squares, centers)
        assigned, squares = nearest_center(x, centers)
        moved = not torch.equal(assigned, before)
    return centers, squares.double().mean().item(), steps


@torch.no_grad()
def nearest_center(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest of the centers (K, D) for each row of x (N, D), and its squared distance; both (N,)."""
    own, found = centers.square().sum(1), []
    for part in x.split(part_rows(x, len(centers))):
        some = part.to(centers)
        least, place = (own - 2 * some @ centers.T).min(1)
        squares = (least + torch.linalg.vector_norm(some, dim=1).square()).clamp_min(0)
        found.append((place.to(x.device), squares.to(x.device)))
    places, squares = map(torch.cat, zip(*found, strict=True))
    return places, squares


@torch.no_grad()
def spherical_kmeans(features: Tensor, centroids: Tensor, iterations: int = 10) -> tuple[Tensor, Tensor]:
    """k-means by cosine similarity from given centroids (swav, main_deepclusterv2.py, `cluster_memory`).

    The result depends only on the arguments, so that all processes find the same clusters.

    Args:
        features: (N, D), N at least 1; rows need not be normalized.
        centroids: (K, D), the start. The centroid of a cluster without images stays as it is.
        iterations: Number of updates of the centroids, >= 0.

    Returns:
        Centroids of unit length (K, D), and for each image the index (N,) of the most similar centroid.
    """
    dtype = float_type(features, centroids)
    features, centroids = unit_rows(features.to(dtype)), unit_rows(centroids.to(dtype))
    parts = features.split(part_rows(features, len(centroids)))
    for _ in range(iterations):
        sums, counts = torch.zeros_like(centroids), centroids.new_zeros(len(centroids), 1)
        for part in parts:
            places = (part @ centroids.T).argmax(1)
            sums.index_add_(0, places, part)
            counts.index_add_(0, places, part.new_ones(len(part), 1))
        centroids = torch.where(counts > 0, unit_rows(sums), centroids)
    return centroids, torch.cat([(part @ centroids.T).argmax(1) for part in parts])


def _check_range(x: Tensor) -> None:
    """Raises ValueError if x is NaN or infinite, or if squares of its values overflow or underflow."""
    check_finite("features", x)
    dtype = float_type(x)
    numbers, largest = torch.finfo(dtype), max(abs(float(value)) for value in x.aminmax())
    low, high = (numbers.tiny / numbers.eps) ** 0.5, (numbers.max * numbers.eps) ** 0.5
    if largest and not low < largest < high:
        raise ValueError(
            f"the largest absolute feature is {largest:.3g}, and its square is outside the range of {dtype}: "
            "divide the features by it"
        )


def _first_centers(x: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++: draws rows of x with probability proportional to the squared distance to the nearest drawn row."""
    norms = torch.linalg.vector_norm(x, dim=1).square()
    drawn = [int(torch.randint(len(x), (1,), generator=generator))]
    nearest = torch.full_like(norms, float("inf"))
    while len(drawn) < clusters:
        last = drawn[-1]
        squares = (norms - 2 * (x @ x[last]) + norms[last]).clamp_min(0)
        nearest = torch.minimum(nearest, squares)
        nearest[last] = 0  # rounding must not let the same row be drawn again
        heights = nearest.double().cpu().cumsum(0)
        at = torch.rand(1, generator=generator, dtype=torch.float64) * heights[-1]
        drawn.append(min(int(torch.searchsorted(heights, at, right=True)), len(x) - 1))
    return x[drawn]


def _means(x: Tensor, assigned: Tensor, squares: Tensor, centers: Tensor) -> Tensor:
    """Cluster means; the center of an empty cluster becomes the image farthest from its own center."""
    counts = assigned.bincount(minlength=len(centers))
    sums = torch.zeros_like(centers)
    rows = part_rows(x, len(centers))
    for part, places in zip(x.split(rows), assigned.split(rows), strict=True):
        sums.index_add_(0, places.to(centers.device), part.to(centers))
    means = sums / counts.clamp_min(1).unsqueeze(1).to(centers.device)
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty):
        means[empty.to(centers.device)] = x[squares.topk(len(empty)).indices].to(centers)
    return means
