"""Tests of weighted kNN classification against a numpy reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.evaluation import knn_accuracy, knn_scores


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def reference(queries, bank, labels, classes, k, temperature):
    """The formula, image by image in float64."""
    scores = np.zeros((len(queries), classes))
    for i, similarities in enumerate(unit(queries) @ unit(bank).T):
        for j in np.argsort(-similarities)[:k]:
            scores[i, labels[j]] += np.exp(similarities[j] / temperature)
    return scores


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 1.0), (100, 0.2)])
def test_scores_equal_formula_up_to_a_common_factor(k, temperature):
    rng = np.random.default_rng(0)
    queries, bank, labels = rng.normal(size=(30, 8)), rng.normal(size=(100, 8)), rng.integers(0, 5, 100)
    ours = knn_scores(*map(torch.from_numpy, (queries, bank, labels)), 5, k, temperature).numpy()
    expected = reference(queries, bank, labels, 5, k, temperature)
    normalized = [x / x.sum(1, keepdims=True) for x in (ours, expected)]
    np.testing.assert_allclose(*normalized, rtol=1e-10)


def test_small_temperature_does_not_overflow():
    x = torch.randn(10, 4)
    scores = knn_scores(x, x, torch.arange(10), 10, k=3, temperature=1e-3)
    assert scores.isfinite().all()
    assert (scores.argmax(1) == torch.arange(10)).all()


def test_large_bank_in_chunks_gives_same_scores(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(50, 4, generator=generator), torch.randn(2**16, 4, generator=generator)
    labels = torch.arange(2**16) % 3
    whole = knn_scores(queries, bank, labels, 3, k=5)
    one_by_one = torch.cat([knn_scores(query[None], bank, labels, 3, k=5) for query in queries])
    torch.testing.assert_close(whole, one_by_one)


def test_accuracy_of_separable_and_shuffled_labels():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    x = torch.eye(4)[labels] + 0.05 * torch.randn(200, 4, generator=generator)
    assert knn_accuracy(x[:100], labels[:100], x[100:], labels[100:], 4) == 1.0
    shuffled = labels[100:][torch.randperm(100, generator=generator)]
    assert knn_accuracy(x[:100], labels[:100], x[100:], shuffled, 4) < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, r"k must be in \[1, 10\]"),
        ({"k": 11}, r"k must be in \[1, 10\]"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"queries": torch.zeros(2, 3)}, "do not match"),
        ({"bank_labels": torch.zeros(3, dtype=torch.long)}, r"bank_labels must be \(10,\)"),
    ],
)
def test_invalid_arguments_raise(change, message):
    arguments = {"queries": torch.zeros(2, 4), "bank": torch.zeros(10, 4), "bank_labels": torch.zeros(10).long()}
    with pytest.raises(ValueError, match=message):
        knn_scores(**{**arguments, "num_classes": 2, "k": 3, **change})
