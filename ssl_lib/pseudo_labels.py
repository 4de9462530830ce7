"""Labels of all training images from their features or scores: k-means, also of whitened features, and transport."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lib.clustering import k_means, nearest_center
from ssl_lib.utils.rows import part_rows, unit_rows
from ssl_lib.utils.seeding import seeded_generator

__all__ = ["cluster_labels", "pca_whitened", "transport_plan"]


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


@torch.no_grad()
def transport_plan(scores: Tensor, sharpness: float, tolerance: float = 0.1, max_rounds: int = 1000) -> Tensor:
    """Optimal transport of images to clusters of the same size, smoothed by entropy (Sinkhorn-Knopp), in float64.

    Source: Asano et al. 2020 (arXiv:1911.05371, section 3); yukimasano/self-label, sinkhornknopp.py, which
    raises probabilities to the power `sharpness`. Here each row and column is divided by its maximum first, which
    changes the scaling factors but not the plan, and keeps the powers from underflowing.

    Args:
        scores: Log-probabilities (N, K) or logits of all images.
        sharpness: Factor of the scores relative to the entropy, > 0.
        tolerance: The rounds end when the images' scaling factors change by less than this, relative and in total.
        max_rounds: Maximum number of rounds.

    Returns:
        Plan (N, K), float64: rows sum to 1 / N, and columns to 1 / K up to the tolerance.
    """
    plan = scores.double() * sharpness
    plan -= plan.amax(1, keepdim=True)
    plan -= plan.amax(0, keepdim=True)
    plan.exp_()
    count, clusters = plan.shape
    images = plan.new_full((count,), 1 / count)
    of_clusters = images
    for _ in range(max_rounds):
        of_clusters = 1 / (clusters * (images @ plan))
        before, images = images, 1 / (count * (plan @ of_clusters))
        if (before / images - 1).abs().sum() < tolerance:
            break
    return plan.mul_(of_clusters).mul_(images[:, None])
