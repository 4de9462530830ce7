"""Tests that every metric refuses NaN and infinite features and names the row."""

from __future__ import annotations

import pytest
import torch

from ssl_lib.evaluation import (
    KNN,
    Cluster,
    EvaluatedEncoder,
    Features,
    Linear,
    Logistic,
    LowShot,
    Retrieval,
    Spectrum,
    alignment,
    alpha_req,
    assignment_entropy,
    average_precision,
    bank_neighbors,
    effective_rank,
    explained_variance,
    feature_std,
    k_means,
    knn_accuracy,
    knn_scores,
    lidar,
    linear_probe,
    logistic_probe,
    logistic_regression,
    prototype_entropy,
    prototype_usage,
    rankme,
    uniformity,
    view_distance,
)
from ssl_lib.utils.rows import check_finite

GOOD = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 4

METRICS = {
    "rankme": (rankme, "features"),
    "effective_rank": (effective_rank, "features"),
    "explained_variance": (explained_variance, "features"),
    "alpha_req": (alpha_req, "features"),
    "feature_std": (feature_std, "features"),
    "uniformity": (uniformity, "features"),
    "lidar": (lambda x: lidar(x.unsqueeze(1).repeat(1, 3, 1)), r"features \(objects, views, D\)"),
    "alignment, first": (lambda x: alignment(x, GOOD), "first views"),
    "alignment, second": (lambda x: alignment(GOOD, x), "second views"),
    "view_distance": (lambda x: view_distance(GOOD, x), "second views"),
    "prototype_usage": (prototype_usage, "assignments"),
    "prototype_entropy": (prototype_entropy, "assignments"),
    "assignment_entropy": (assignment_entropy, "assignments"),
    "bank_neighbors, queries": (lambda x: bank_neighbors(x, GOOD, 3), "queries"),
    "bank_neighbors, bank": (lambda x: bank_neighbors(GOOD, x, 3), "bank"),
    "knn_scores": (lambda x: knn_scores(x, GOOD, LABELS, 4), "queries"),
    "knn_accuracy": (lambda x: knn_accuracy(GOOD, LABELS, x, LABELS, 4), "bank"),
    "average_precision, queries": (lambda x: average_precision(x, LABELS, GOOD, LABELS), "queries"),
    "average_precision, bank": (lambda x: average_precision(GOOD, LABELS, x, LABELS), "bank"),
    "k_means": (lambda x: k_means(x, 4, torch.Generator()), "features"),
    "linear_probe": (lambda x: linear_probe(x, LABELS, GOOD, LABELS, 4), "features"),
    "linear_probe, test": (lambda x: linear_probe(GOOD, LABELS, x, LABELS, 4), "test features"),
    "logistic_probe": (lambda x: logistic_probe(x, LABELS, GOOD, LABELS, 4), "features"),
    "logistic_probe, test": (lambda x: logistic_probe(GOOD, LABELS, x, LABELS, 4), "test features"),
    "logistic_regression": (lambda x: logistic_regression(x, LABELS, 4), "features"),
}


def with_bad_row(value):
    x = GOOD.clone()
    x[17, 2] = value
    return x


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", METRICS)
def test_metrics_name_the_row_that_is_not_finite(name, value):
    metric, argument = METRICS[name]
    metric(GOOD.softmax(1) if argument == "assignments" else GOOD)
    with pytest.raises(ValueError, match=f"^row 17 of the {argument} is NaN or infinite"):
        metric(with_bad_row(value))


@pytest.mark.parametrize("bad", ["bank", "queries"])
@pytest.mark.parametrize(
    "protocol",
    [
        KNN(k=3),
        Retrieval(),
        Retrieval(full_ranking=False),
        Linear(min_steps=5),
        Linear(labels_per_class=5, min_steps=5),
        Logistic(),
        LowShot(shares=(), per_class=(5,)),
        Cluster(),
        Spectrum(),
    ],
    ids=lambda protocol: type(protocol).__name__,
)
def test_protocols_refuse_features_that_are_not_finite(protocol, bad, images):
    if isinstance(protocol, Cluster):
        pytest.importorskip("scipy")
    subject = EvaluatedEncoder("trained", torch.nn.Identity(), images, images)
    whole = Features(GOOD, LABELS, GOOD.flip(0), LABELS.flip(0))
    subject.features, subject.bank_features = whole, whole.bank
    scores = protocol(subject)
    broken = with_bad_row(float("nan"))
    subject.features = Features(
        *((broken, LABELS, whole.queries, LABELS) if bad == "bank" else (GOOD, LABELS, broken, LABELS))
    )
    subject.bank_features = subject.features.bank
    if isinstance(protocol, Spectrum) and bad == "queries":  # it uses the bank alone
        assert protocol(subject) == scores
    else:
        with pytest.raises(ValueError, match=r"row \d+ of the [a-z ]+ is NaN or infinite"):
            protocol(subject)


def test_large_features_are_checked_in_chunks():
    x = torch.zeros(2**13, 2**12)  # two chunks of 2**24 values
    check_finite("features", x)
    x[2**12 + 5, 7] = float("inf")
    with pytest.raises(ValueError, match=f"row {2**12 + 5} of the features"):
        check_finite("features", x)
    check_finite("features", torch.zeros(0, 3))
