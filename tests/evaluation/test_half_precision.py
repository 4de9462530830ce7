"""Tests that metrics of float16 and bfloat16 features equal those of the same values in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.clustering import k_means, nearest_center, spherical_kmeans
from ssl_lib.evaluation import (
    average_precision,
    bank_neighbors,
    effective_rank,
    explained_variance,
    feature_std,
    knn_accuracy,
    knn_scores,
    linear_probe,
    logistic_probe,
    logistic_regression,
    rankme,
    uniformity,
)

HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
LABELS = torch.arange(300) % 4


def features(dtype, dim=64, scale=1.0, mean=4.0):
    """Rows around four close centers, far from zero: half precision cannot represent the differences of cosines."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(4, dim, generator=generator)
    rows = mean + 0.3 * centers[LABELS] + torch.randn(300, dim, generator=generator)
    return (scale * rows).to(dtype)


def cosines(queries, bank):
    queries, bank = queries.double().numpy(), bank.double().numpy()
    queries, bank = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, bank))
    return queries @ bank.T


@HALVES
def test_neighbors_are_those_of_float64(dtype):
    x = features(dtype)
    similarity, places = bank_neighbors(x[:100], x[100:], 20)
    expected = -np.sort(-cosines(x[:100], x[100:]), axis=1)[:, :20]
    assert similarity.dtype == torch.float32
    np.testing.assert_allclose(similarity.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosines(x[:100], x[100:]), places.numpy(), 1), expected, atol=1e-6)


@HALVES
@pytest.mark.parametrize("k", [1, 20, 200])
def test_knn_equals_float64(dtype, k):
    x = features(dtype)
    arguments = (LABELS[100:], 4, k, 0.01)
    scores = knn_scores(x[:100], x[100:], *arguments)
    expected = knn_scores(x[:100].double(), x[100:].double(), *arguments)
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=3e-3 * min(k, 20))
    found = knn_accuracy(x[:100], LABELS[:100], x[100:], *arguments)
    assert found == knn_accuracy(x[:100].double(), LABELS[:100], x[100:].double(), *arguments) > 0.4


def test_bank_and_queries_may_have_different_types():
    x = features(torch.float16)
    expected = bank_neighbors(x[:9].double(), x[9:].double(), 5)
    for queries, bank in ((x[:9].float(), x[9:]), (x[:9], x[9:].double()), (x[:9].bfloat16().double(), x[9:])):
        similarity, places = bank_neighbors(queries, bank, 5)
        assert similarity.dtype == torch.promote_types(queries.dtype, bank.dtype)
        if queries.dtype != torch.float64 or bank.dtype == torch.float64:
            torch.testing.assert_close(similarity.double(), expected[0], rtol=0, atol=1e-6)
            assert torch.equal(places, expected[1])


@HALVES
def test_average_precision_equals_that_of_scikit_learn(dtype):
    metrics = pytest.importorskip("sklearn.metrics")
    x = features(dtype, mean=1.0)
    found = average_precision(x[:40], LABELS[:40], x[40:], LABELS[40:])
    similar = cosines(x[:40], x[40:])
    expected = [
        metrics.average_precision_score(LABELS[40:] == label, row)
        for label, row in zip(LABELS[:40], similar, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


@HALVES
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_probes_equal_float64(dtype, scale):
    """At 1e3 the squares of the features overflow float16, at 1e-3 they vanish."""
    x = features(dtype, scale=scale)
    train, test = (x[:200], LABELS[:200]), (x[200:], LABELS[200:])
    wide = (train[0].double(), train[1]), (test[0].double(), test[1])
    found, expected = (logistic_probe(*a, *b, 4, cs=(0.001, 0.01)) for a, b in ((train, test), wide))
    assert (found.c, found.held_out, found.accuracy) == (expected.c, expected.held_out, expected.accuracy)
    assert found.accuracy > 0.8 and torch.equal(found.predictions, expected.predictions)
    found, expected = (
        linear_probe(*a, *b, 4, min_steps=50, learning_rates=(0.1, 0.3)) for a, b in ((train, test), wide)
    )
    assert (found.held_out, found.test) == (expected.held_out, expected.test) and found.accuracy > 0.8


@HALVES
def test_logistic_regression_equals_that_of_scikit_learn(dtype):
    models = pytest.importorskip("sklearn.linear_model")
    x = features(dtype, dim=8, mean=0.0)
    weights, biases = logistic_regression(x, LABELS, 4, c=0.1, tolerance=1e-6)
    model = models.LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000).fit(x.double().numpy(), LABELS.numpy())
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights.numpy(), model.coef_, atol=1e-4)
    np.testing.assert_allclose((biases - biases.mean()).numpy(), model.intercept_ - model.intercept_.mean(), atol=1e-4)


@HALVES
def test_clusters_are_those_of_float64(dtype):
    x = features(dtype, scale=20.0)  # the squares of the rows overflow float16
    found, expected = (k_means(rows, 4, torch.Generator().manual_seed(0)) for rows in (x, x.double()))
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=1e-4)
    assert found[1] == pytest.approx(expected[1], rel=1e-5)
    assert torch.equal(nearest_center(x, found[0])[0], nearest_center(x.double(), expected[0])[0])
    found, expected = (spherical_kmeans(rows, rows[:4]) for rows in (x, x.double()))
    torch.testing.assert_close(found[0].double(), expected[0], rtol=0, atol=1e-5)
    assert torch.equal(found[1], expected[1])


@HALVES
@pytest.mark.parametrize("metric", [rankme, effective_rank, feature_std, uniformity, explained_variance])
def test_metrics_without_labels_equal_float64(metric, dtype):
    x = features(dtype)
    np.testing.assert_allclose(metric(x), metric(x.double()), rtol=1e-12)
