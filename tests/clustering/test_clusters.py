"""Spherical k-means against scikit-learn's steps, and the clusters of the training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.clustering import Clusters, check_clusters, spherical_kmeans
from ssl_lib.utils.rows import unit_rows


def points(count=60, dim=5, seed=0):
    return torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("iterations", [0, 1, 7])
def test_spherical_kmeans_equals_the_formula(iterations):
    x, start = points(), points(6, seed=1)
    centroids, assigned = spherical_kmeans(x, start, iterations)
    rows = x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    expected = start.numpy() / np.linalg.norm(start.numpy(), axis=1, keepdims=True)
    for _ in range(iterations):
        nearest = (rows @ expected.T).argmax(1)
        for cluster in range(6):
            if (nearest == cluster).any():
                total = rows[nearest == cluster].sum(0)
                expected[cluster] = total / np.linalg.norm(total)
    np.testing.assert_allclose(centroids.numpy(), expected, rtol=1e-10)
    np.testing.assert_array_equal(assigned.numpy(), (rows @ expected.T).argmax(1))


def test_emptied_centroid_stays():
    x = torch.tensor([[1.0, 0.1], [1.0, -0.1]])
    start = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    centroids, assigned = spherical_kmeans(x, start, 3)
    assert torch.equal(centroids[1], start[1]) and assigned.tolist() == [0, 0]


def test_clusters_depend_on_the_seed_alone_and_separate_groups():
    x = torch.cat([torch.eye(3)[i] + 0.05 * torch.randn(20, 3) for i in range(3)])
    first, second = Clusters(60, 3, 3), Clusters(60, 3, 3)
    for clusters in (first, second):
        clusters.fit(x, 4, 0, iterations=10)
    assert torch.equal(first.assignments, second.assignments) and torch.equal(first.centroids, second.centroids)
    found = set()
    for seed in range(5):
        first.fit(x, seed)
        found.add(tuple(len(group.unique()) for group in first.assignments.view(3, 20)))
    assert (1, 1, 1) in found  # a start with one image of each group


def test_fewer_images_than_clusters_leave_the_others_at_their_start():
    clusters = Clusters(10, 6, 3)
    before = clusters.centroids.clone()
    clusters.fit(points(4, 3).float(), 0)
    torch.testing.assert_close(clusters.centroids[4:], before[4:])
    assert (clusters.assignments[:4] >= 0).all() and (clusters.assignments[4:] == -100).all()
    torch.testing.assert_close(clusters.centroids, unit_rows(clusters.centroids))


@pytest.mark.parametrize("count", [1, 11])
def test_number_of_clusters_is_checked(count):
    with pytest.raises(ValueError, match=f"at least 2 and at most the number of images, 10, got {count}"):
        check_clusters(count, 10)
