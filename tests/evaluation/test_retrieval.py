"""Tests of recall@k and average precision against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.evaluation import EvaluatedEncoder, Features, Retrieval, average_precision


def problem(ties=False):
    rng = np.random.default_rng(0)
    queries, bank = rng.normal(size=(25, 5)), rng.normal(size=(60, 5))
    if ties:
        bank = np.concatenate([bank[:20]] * 3)
    return queries, rng.integers(0, 4, 25), bank, rng.integers(0, 4, 60)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cosines(queries, bank):
    return unit(queries) @ unit(bank).T


def test_recall_and_average_precision_equal_brute_force(images):
    queries, query_labels, bank, bank_labels = problem()
    subject = EvaluatedEncoder("trained", torch.nn.Identity(), images, images)
    subject.features = Features(*map(torch.from_numpy, (bank, bank_labels, queries, query_labels)))
    scores = Retrieval(k=(1, 5))(subject)
    hits, precisions = {1: [], 5: []}, []
    for similarity, label in zip(cosines(queries, bank), query_labels, strict=True):
        right = bank_labels[np.argsort(-similarity)] == label
        for k, each in hits.items():
            each.append(right[:k].any())
        precisions.append(np.mean([right[: place + 1].mean() for place in np.flatnonzero(right)]))
    assert scores.values["recall_1"] == pytest.approx(np.mean(hits[1]))
    assert scores.values["recall_5"] == pytest.approx(np.mean(hits[5]))
    assert scores.values["map"] == pytest.approx(np.mean(precisions))


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_equals_scikit_learn(ties):
    metrics = pytest.importorskip("sklearn.metrics")
    queries, query_labels, bank, bank_labels = problem(ties)
    ours = average_precision(*map(torch.from_numpy, (queries, query_labels, bank, bank_labels)))
    similarity = cosines(queries, bank[:20] if ties else bank)
    similarity = np.concatenate([similarity] * 3, 1) if ties else similarity  # bitwise identical images
    theirs = [
        metrics.average_precision_score(bank_labels == label, row)
        for label, row in zip(query_labels, similarity, strict=True)
    ]
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9)


@pytest.mark.parametrize(("query_scale", "bank_scale"), [(1e30, 1.0), (1e-30, 1.0), (1.0, 1e30), (1.0, 1e-30)])
def test_scale_of_features_does_not_matter(query_scale, bank_scale):
    queries, query_labels, bank, bank_labels = map(torch.from_numpy, problem())
    expected = average_precision(queries.float(), query_labels, bank.float(), bank_labels)
    queries, bank = (query_scale * queries).float(), (bank_scale * bank).float()
    torch.testing.assert_close(average_precision(queries, query_labels, bank, bank_labels), expected)


def test_zero_image_has_cosine_zero():
    bank = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    labels = torch.tensor([0, 1, 0])
    # The zero image has rank 2, so that the images of class 0 have ranks 1 and 3.
    found = average_precision(torch.tensor([[2.0, 0.0]]), labels[:1], bank, labels)
    assert found.tolist() == [pytest.approx((1 + 2 / 3) / 2)]


def test_queries_of_classes_missing_in_bank_are_excluded_and_counted(images):
    queries, query_labels, bank, bank_labels = problem()
    subject = EvaluatedEncoder("trained", torch.nn.Identity(), images, images)
    query_labels[:5] = 9
    subject.features = Features(*map(torch.from_numpy, (bank, bank_labels, queries, query_labels)))
    scores = Retrieval()(subject)
    assert scores.details == {"queries": 20, "without_a_match": 5}
    subject.features = Features(*map(torch.from_numpy, (bank, bank_labels, queries[5:], query_labels[5:])))
    assert Retrieval()(subject).values == scores.values


def test_no_mean_average_precision_without_full_ranking():
    assert [measure.key for measure in Retrieval(k=(3,), full_ranking=False).measures] == ["recall_3"]
    with pytest.raises(ValueError, match="k must be at least 1"):
        Retrieval(k=())
    with pytest.raises(ValueError, match=r"retrieval.k 10 is more than the 9"):
        Retrieval().check(torch.zeros(9))
