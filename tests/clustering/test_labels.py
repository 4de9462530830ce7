"""Labels of all images: k-means of whitened features, and optimal transport against scaling loops and a program."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.clustering import cluster_labels, pca_whitened, transport_plan


def points(count=60, dim=5, seed=0, scale=1.0):
    return scale * torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dim", [1, 3, 5, 9])
def test_whitened_features_equal_the_first_singular_vectors(dim):
    """Up to their signs, which no distance depends on."""
    x = points() @ points(5, 5, 1) + 7
    found = pca_whitened(x, dim).numpy()
    left = np.linalg.svd(x.numpy() - x.numpy().mean(0), full_matrices=False)[0][:, :dim] * 60**0.5
    assert found.shape == (60, min(dim, 5))
    np.testing.assert_allclose(np.abs(found), np.abs(left), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_components_without_variance_are_zero(dtype):
    x = torch.cat((points(40, 2), points(40, 2), torch.full((40, 1), 1e3)), 1).to(dtype)
    x[:, 2:4] = x[:, :2]
    found = pca_whitened(x, 5)
    assert found.dtype == dtype and not found[:, 2:].any()
    torch.testing.assert_close(found[:, :2].T @ found[:, :2] / 40, torch.eye(2, dtype=dtype), rtol=1e-4, atol=1e-4)
    assert not pca_whitened(torch.ones(8, 3), 2).any()


@pytest.mark.parametrize("pca_dim", [None, 3])
def test_k_means_labels_separate_groups_and_leave_out_rows_of_zeros(pca_dim):
    truth = torch.arange(60) % 3
    x = 5 * torch.eye(3, 4, dtype=torch.float64)[truth] + points(60, 4, scale=0.01)
    x[[5, 17]] = 0
    labels = cluster_labels(x, 3, 4, iterations=20, pca_dim=pca_dim)
    assert labels[[5, 17]].tolist() == [-100, -100]
    given = labels >= 0
    assert given.sum() == 58
    assert len(set(zip(truth[given].tolist(), labels[given].tolist(), strict=True))) == 3


def test_k_means_labels_are_a_fixed_point_of_unit_rows():
    x = points(80, 4)
    labels = cluster_labels(x, 6, iterations=100).numpy()
    rows = x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    means = np.stack([rows[labels == cluster].mean(0) for cluster in range(6)])
    distances = ((rows[:, None] - means) ** 2).sum(2)
    np.testing.assert_array_equal(labels, distances.argmin(1))


def test_k_means_labels_depend_on_the_seed_alone():
    x = points(200, 6)
    first, again, other = (cluster_labels(x, 9, seed, iterations=3) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_fewer_images_than_clusters_get_a_cluster_each_and_no_images_none():
    assert cluster_labels(points(3), 5, iterations=5).sort().values.tolist() == [0, 1, 2]
    assert cluster_labels(torch.zeros(4, 2), 5, iterations=5).tolist() == [-100] * 4


def scaled(probabilities: np.ndarray, sharpness: float) -> np.ndarray:
    """The transport plan as in algorithm 1 of arXiv:1306.0895, from powers of probabilities, with many rounds."""
    kernel = probabilities**sharpness
    count, clusters = kernel.shape
    left, right = np.ones(count), np.ones(clusters)
    for _ in range(3000):
        right = np.array([1 / clusters / (left * kernel[:, k]).sum() for k in range(clusters)])
        left = 1 / count / (kernel @ right)
    return left[:, None] * kernel * right


@pytest.mark.parametrize(("count", "clusters", "sharpness"), [(12, 3, 5.0), (20, 5, 25.0), (6, 9, 10.0)])
def test_transport_plan_equals_scaled_powers_of_the_probabilities(count, clusters, sharpness):
    scores = points(count, clusters)
    plan = transport_plan(scores, sharpness, tolerance=1e-10, max_rounds=10000)
    expected = scaled(scores.softmax(1).numpy(), sharpness)
    np.testing.assert_allclose(plan.numpy(), expected, rtol=1e-6, atol=1e-12)
    shifted = transport_plan(scores.log_softmax(1), sharpness, tolerance=1e-10, max_rounds=10000)
    torch.testing.assert_close(shifted, plan, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_plan_gives_images_and_clusters_equal_masses(scale):
    """Logits of 100 and a sharpness of 25 are far beyond the range of powers of probabilities."""
    plan = transport_plan(points(40, 4, scale=scale).float(), 25.0, tolerance=1e-4, max_rounds=100_000)
    assert plan.dtype == torch.float64
    torch.testing.assert_close(plan.sum(1), torch.full((40,), 1 / 40, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(0), torch.full((4,), 1 / 4, dtype=torch.float64), rtol=1e-3, atol=0)


def test_sharp_plan_reaches_the_optimum_of_the_linear_program():
    optimize = pytest.importorskip("scipy.optimize")
    scores = points(12, 4)
    rows, columns = np.kron(np.eye(12), np.ones(4)), np.kron(np.ones(12), np.eye(4))
    best = optimize.linprog(-scores.numpy().ravel(), A_eq=np.vstack((rows, columns)), b_eq=[1 / 12] * 12 + [1 / 4] * 4)
    plan = transport_plan(scores, 500.0, tolerance=1e-8, max_rounds=100_000)
    assert (plan * scores).sum().item() == pytest.approx(-best.fun, abs=1e-4)
    assert plan.argmax(1).bincount().tolist() == [3, 3, 3, 3]
    smooth = transport_plan(scores, 1.0, tolerance=1e-8, max_rounds=100_000)
    assert (smooth * scores).sum().item() < -best.fun - 1e-2
