"""Tests of weighted kNN classification against a numpy reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssl_lib.evaluation import KNN, EvaluatedEncoder, Features, bank_neighbors, knn_accuracy, knn_scores


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


def test_accuracy_at_small_temperatures_is_the_accuracy_of_the_nearest_image():
    """Far neighbors: exp((cosine - 1) / temperature) underflows for all of them."""
    rng = np.random.default_rng(0)
    labels = torch.arange(400) % 5
    centers = rng.normal(size=(5, 200))
    x = torch.from_numpy(centers[labels] + 3 * rng.normal(size=(400, 200))).float()
    data = x[:100], labels[:100], x[100:], labels[100:], 5
    nearest = knn_accuracy(*data, k=1)
    accuracies = [knn_accuracy(*data, k=20, temperature=t) for t in (1e-2, 1e-3, 1e-5, 1e-30, 1e-300)]
    assert accuracies[0] > 0.6 and min(accuracies[1:]) >= min(accuracies[0], nearest)
    assert accuracies[2:] == [nearest] * 3
    scores = knn_scores(x[:100], x[100:], labels[100:], 5, temperature=1e-3)
    expected = reference(x[:100].double().numpy(), x[100:].double().numpy(), labels[100:].numpy(), 5, 20, 1e-3)
    np.testing.assert_allclose(
        scores.numpy() / scores.numpy().sum(1, keepdims=True), expected / expected.sum(1)[:, None], atol=1e-3
    )


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_of_features_does_not_matter(scale):
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(30, 8, generator=generator), torch.randn(100, 8, generator=generator)
    cosines, places = bank_neighbors(queries, bank, 5)
    for pair in ((scale * queries, bank), (queries, scale * bank), (scale * queries, bank / scale)):
        found = bank_neighbors(*pair, 5)
        assert torch.equal(found[1], places)
        torch.testing.assert_close(found[0], cosines, rtol=0, atol=1e-6)


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor):
                self.values = max(self.values, each.numel())
        return result


def test_scores_of_many_classes_are_not_all_in_memory(images):
    classes, count = 21_841, 3000
    generator = torch.Generator().manual_seed(0)
    bank_labels = torch.randperm(classes, generator=generator)[:5000]
    bank = torch.randn(5000, 4, generator=generator)
    picks = torch.randint(5000, (count,), generator=generator)
    features = Features(bank, bank_labels, 2 * bank[picks], bank_labels[picks])
    subject = EvaluatedEncoder("trained", torch.nn.Identity(), images, images)
    subject.features = features
    with LargestTensor() as largest:
        values = KNN(k=5, temperature=1e-3, also=(20,))(subject).values
    assert values == {"knn": 1.0, "knn_20": 1.0}
    assert largest.values <= 2**24 < classes * count
    with LargestTensor() as largest:
        assert knn_accuracy(features.queries, features.query_labels, bank, bank_labels, classes, 5, 1e-3) == 1.0
    assert largest.values <= 2**24


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
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"queries": torch.zeros(2, 3)}, "do not match"),
        ({"bank_labels": torch.zeros(3, dtype=torch.long)}, r"bank_labels must be \(10,\)"),
    ],
)
def test_invalid_arguments_raise(change, message):
    arguments = {"queries": torch.zeros(2, 4), "bank": torch.zeros(10, 4), "bank_labels": torch.zeros(10).long()}
    with pytest.raises(ValueError, match=message):
        knn_scores(**{**arguments, "num_classes": 2, "k": 3, **change})


@pytest.mark.parametrize("labels", [[-1, 0, 1], [0, 1, 2]])
def test_labels_out_of_range_are_refused(labels):
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    for function in (knn_scores, lambda *given: knn_accuracy(x, torch.tensor([0, 1, 1]), *given[1:])):
        with pytest.raises(ValueError, match=r"bank_labels must be in \[0, 2\), got -?\d to \d: leave out unlabeled"):
            function(x, x, torch.tensor(labels), 2, 1)
