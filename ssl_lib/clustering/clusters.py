"""The clusters of the training images, as a part of a method."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lib.clustering.k_means import spherical_kmeans
from ssl_lib.utils.rows import unit_rows
from ssl_lib.utils.seeding import seeded_generator

__all__ = ["Clusters", "check_clusters"]


class Clusters(nn.Module):
    """Centroids, and the cluster of every training image, found by spherical k-means before an epoch.

    Args:
        num_images: Number of training images M.
        num_clusters: Number of clusters K, at most M.
        dim: Width D of the embeddings.

    Attributes:
        centroids: (K, D), unit length; random before `fit`.
        assignments: Index of each image's cluster (M,), int64; -100 before `fit`.

    Raises:
        ValueError: There are fewer than 2 clusters or more than images.
    """

    centroids: Tensor
    assignments: Tensor

    def __init__(self, num_images: int, num_clusters: int, dim: int) -> None:
        super().__init__()
        check_clusters(num_clusters, num_images)
        self.register_buffer("centroids", unit_rows(torch.randn(num_clusters, dim)))
        self.register_buffer("assignments", torch.full((num_images,), -100))

    @torch.no_grad()
    def fit(self, rows: Tensor, *seed: int, iterations: int = 10) -> None:
        """Clusters the embeddings (N, D) of the first N images, starting from images drawn by the seed.

        All processes find the same clusters. If there are fewer images than clusters, the other centroids stay.
        """
        order = torch.randperm(len(rows), generator=seeded_generator("clusters", *seed))
        drawn = rows[order[: len(self.centroids)].to(rows.device)]
        start = torch.cat((unit_rows(drawn).to(self.centroids), self.centroids[len(drawn) :]))
        centroids, assigned = spherical_kmeans(rows.to(start), start, iterations)
        self.centroids.copy_(centroids)
        self.assignments[: len(rows)] = assigned


def check_clusters(clusters: int, num_images: int) -> None:
    """Raises ValueError unless the number of clusters is at least 2 and at most the number of images."""
    if not 2 <= clusters <= num_images:
        raise ValueError(
            f"num_clusters must be at least 2 and at most the number of images, {num_images}, got {clusters}"
        )
