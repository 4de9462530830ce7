"""Tests of k-means and the clustering metrics against scikit-learn and their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from ssl_lib.clustering import nearest_center
from ssl_lib.data import ArrayData
from ssl_lib.errors import ConfigError
from ssl_lib.evaluation import Cluster, EvaluatedEncoder, Evaluator, Features, cluster_scores, k_means
from tests.conftest import limited_memory


def blobs(count=120, classes=4, spread=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centers = torch.randn(classes, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return centers[labels] + spread * torch.randn(count, 6, generator=generator, dtype=torch.float64), labels


def test_centers_are_a_fixed_point_of_scikit_learn_k_means():
    cluster = pytest.importorskip("sklearn.cluster")
    x, _ = blobs(spread=1.5)
    centers, inertia, steps = k_means(x, 7, torch.Generator().manual_seed(0))
    theirs = cluster.KMeans(7, init=centers.numpy(), n_init=1, tol=0).fit(x.numpy())
    assert theirs.n_iter_ <= 2 < steps
    np.testing.assert_allclose(theirs.cluster_centers_, centers.numpy(), atol=1e-10)
    assert inertia == pytest.approx(theirs.inertia_ / len(x))
    several = min(k_means(x, 7, torch.Generator().manual_seed(seed))[1] for seed in range(10))
    best = cluster.KMeans(7, n_init=10, random_state=0).fit(x.numpy()).inertia_ / len(x)
    assert several <= 1.03 * best


def test_separated_classes_are_found_and_no_cluster_is_empty():
    pytest.importorskip("scipy")
    x, labels = blobs(spread=0.05)
    generator = torch.Generator().manual_seed(0)
    centers = min((k_means(x, 4, generator) for _ in range(5)), key=lambda run: run[1])[0]
    assert cluster_scores(nearest_center(x, centers)[0], labels)["cluster_accuracy"] == 1.0
    distinct = torch.eye(5, dtype=torch.float64)[torch.arange(40) % 5]
    for seed in range(5):
        assigned = nearest_center(distinct, k_means(distinct, 5, torch.Generator().manual_seed(seed))[0])[0]
        assert len(assigned.unique()) == 5


def test_cluster_scores_equal_best_matching_and_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 100)
    found = np.where(rng.random(100) < 0.5, (labels + 1) % 4, rng.integers(0, 4, 100))
    scores = cluster_scores(torch.from_numpy(found), torch.from_numpy(labels))
    candidates = [np.mean(np.array(names)[found] == labels) for names in itertools.permutations(range(4))]
    assert scores["cluster_accuracy"] == pytest.approx(max(candidates))
    assert scores["nmi"] == pytest.approx(metrics.normalized_mutual_info_score(labels, found))
    assert scores["ari"] == pytest.approx(metrics.adjusted_rand_score(labels, found))
    singletons = cluster_scores(torch.arange(100), torch.from_numpy(labels))  # each cluster matches at most one class
    assert singletons["cluster_accuracy"] == pytest.approx(4 / 100)


@pytest.mark.parametrize(("clusters", "classes"), [(1, 1), (1, 7), (7, 1), (5, 5), (30, 4), (4, 30), (200, 200)])
def test_matching_equals_the_hungarian_method_on_all_pairs(clusters, classes):
    optimize = pytest.importorskip("scipy.optimize")
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(clusters * 1000 + classes)
    for count in (3, 40, 400):
        found, labels = 3 * rng.integers(0, clusters, count), 10**9 + rng.integers(0, classes, count)
        table = np.zeros((3 * clusters, classes), np.int64)
        np.add.at(table, (found, labels - 10**9), 1)
        best = table[optimize.linear_sum_assignment(table, maximize=True)].sum()
        scores = cluster_scores(torch.from_numpy(found), torch.from_numpy(labels))
        assert scores["cluster_accuracy"] == best / count


def test_memory_of_the_scores_does_not_grow_with_clusters_times_classes():
    """A table of all pairs would take 7.2 GB."""
    pytest.importorskip("sklearn")
    order = torch.randperm(30_000, generator=torch.Generator().manual_seed(0))
    with limited_memory(2**31):
        assert set(cluster_scores(order, torch.arange(30_000)).values()) == {1.0}
        with pytest.raises(MemoryError):
            np.empty((30_000, 30_000)).fill(0)


def test_missing_scikit_learn_raises_with_install_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"needs scikit-learn: pip install scikit-learn"):
        Cluster().check(torch.zeros(10))


def test_more_clusters_or_classes_than_images_are_refused_before_the_evaluation():
    pytest.importorskip("sklearn")
    Cluster().check(torch.arange(5))
    for labels, protocol, clusters in (
        (torch.tensor([0, 7, 3]), Cluster(), "null, the number of classes, 8,"),
        (torch.tensor([0, 1, 1]), Cluster(clusters=4), "4"),
    ):
        with pytest.raises(ValueError, match=rf"cluster.clusters {clusters} is more than the 3 .* to at most 3"):
            protocol.check(labels)
    color = ArrayData(
        torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 3, 4, 6]), mean=[0.5], std=[0.5]
    )
    with pytest.raises(ValueError, match="null, the number of classes, 7, is more than the 6"):
        Evaluator(color, color, [Cluster()], random_encoder=torch.nn.Flatten())


def test_number_of_clusters_is_the_number_of_classes_of_both_sets(images):
    pytest.importorskip("sklearn")
    x, labels = blobs(classes=6)
    for bank, queries, expected in (
        (labels < 4, labels < 6, 6),
        (labels < 6, labels < 4, 6),
        (labels < 4, labels < 3, 4),
    ):
        subject = EvaluatedEncoder("trained", torch.nn.Identity(), images, images)
        subject.features = Features(x[bank], labels[bank], x[queries], labels[queries])
        assert Cluster()(subject).details["clusters"] == expected
        assert Cluster(clusters=5)(subject).details["clusters"] == 5


@pytest.mark.parametrize(("scale", "value"), [(1e25, "[12].*e[+]25"), (1e-25, ".*e-2[456]")])
def test_features_whose_squares_do_not_fit_raise(scale, value):
    x = (scale * blobs()[0]).float()
    with pytest.raises(ValueError, match=rf"the largest absolute feature is {value}, .* range of torch.float32"):
        k_means(x, 4, torch.Generator())
    assert k_means(x.double(), 4, torch.Generator())[1] > 0
    assert k_means(torch.zeros(5, 2), 2, torch.Generator())[1] == 0


def test_invalid_settings_raise():
    with pytest.raises(ValueError, match="clusters must be at least 2, got 1"):
        Cluster(clusters=1)
    with pytest.raises(ValueError, match=r"clusters must be in \[1, 3\]"):
        k_means(torch.zeros(3, 2), 4, torch.Generator())
