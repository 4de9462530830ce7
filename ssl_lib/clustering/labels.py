"""Labels of all training images: k-means of their features, also of whitened ones."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lib.clustering.k_means import k_means, nearest_center
from ssl_lib.utils.rows import part_rows, unit_rows
from ssl_lib.utils.seeding import seeded_generator

__all__ = ["cluster_labels", "pca_whitened"]


@torch.no_grad()
def cluster_labels(
    features: Tensor,
    clusters: int,
    *seed: int,
    iterations: int,
    pca_dim: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Labels images by k-means of their features at unit length.

    Args:
        features: (N, D). Rows of zeros are images without features, as in `Method.before_epoch`.
        clusters: Number of clusters. With fewer images than clusters, every image is a cluster.
        seed: Non-negative integers, the same in all processes.
        iterations: Maximum number of iterations, at least 1.
        pca_dim: Number of principal components to whiten first, at most D are used; None takes the features.
        device: Device to compute on; None uses the device of the features.

    Returns:
        Clusters (N,), int64, on the device of the features; -100 for rows of zeros.
    """
    labels, given = torch.full((len(features),), -100, device=features.device), features.any(1)
    if given.any():
        rows = features[given]
        rows = unit_rows(rows if pca_dim is None else pca_whitened(rows, pca_dim, device))
        generator = seeded_generator("clusters", *seed)
        centers, _, _ = k_means(rows, min(clusters, len(rows)), generator, iterations, device)
        labels[given] = nearest_center(rows, centers)[0]
    return labels


@torch.no_grad()
def pca_whitened(x: Tensor, dim: int, device: torch.device | None = None) -> Tensor:
    """Projects on the first principal components, each scaled to variance 1.

    Args:
        x: (N, D).
        dim: Number of components, the largest first; at most D are used.
        device: Device to compute on; None uses the device of x.

    Returns:
        (N, min(dim, D)), on the device of x. A component without variance is 0.
    """
    parts, mean = x.split(part_rows(x)), x.mean(0, dtype=torch.float64).to(device or x.device)
    covariance = torch.zeros(len(mean), len(mean), dtype=mean.dtype, device=mean.device)
    for part in parts:
        centered = part.to(mean) - mean
        covariance.addmm_(centered.T, centered, alpha=1 / len(x))
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0)[:dim], vectors.flip(1)[:, :dim]
    kept = values > values[0].clamp_min(0) * len(mean) * torch.finfo(mean.dtype).eps
    projection = vectors * torch.where(kept, values, torch.inf).rsqrt()
    return torch.cat([((part.to(mean) - mean) @ projection).to(x) for part in parts])
