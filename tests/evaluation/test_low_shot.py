"""Tests of the low-shot protocol."""

from __future__ import annotations

import json
import statistics

import pytest
import torch

from ssl_lib.evaluation import EvaluatedEncoder, Features, LowShot, logistic_probe
from ssl_lib.evaluation.classification import few_labels


@pytest.fixture
def subject(images):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    x = torch.randn(4, 6, generator=generator)[labels] + torch.randn(200, 6, generator=generator)
    subject = EvaluatedEncoder("trained", torch.nn.Identity(), images, images)
    subject.features = Features(x[:120], labels[:120], x[120:], labels[120:])
    return subject


def test_every_metric_has_mean_and_std_over_draws(subject):
    protocol = LowShot(shares=(0.5,), per_class=(1, 3), draws=3)
    scores = protocol(subject)
    assert [measure.key for measure in protocol.measures] == ["lowshot_50pct", "lowshot_1", "lowshot_3"]
    assert [len(scores.details[m.key]) for m in protocol.measures] == [3, 3, 3]
    assert [draws[0]["labels"] for draws in scores.details.values()] == [60, 4, 12]
    f, expected = subject.features, []
    for seed in range(3):
        picks = few_labels(f.bank_labels, 3, seed)
        result = logistic_probe(f.bank[picks], f.bank_labels[picks], f.queries, f.query_labels, 4, cs=(1.0,))
        expected.append(result.accuracy)
    assert scores.values["lowshot_3"] == pytest.approx(statistics.fmean(expected))
    assert scores.values["lowshot_3_std"] == pytest.approx(statistics.stdev(expected))
    assert scores.values["lowshot_50pct"] > scores.values["lowshot_1"]
    assert protocol(subject) == scores


def test_class_with_too_few_labels_raises():
    labels = torch.tensor([0] * 30 + [1] * 4)
    with pytest.raises(ValueError, match=r"lowshot: class 1 has 4 labeled images, fewer than the requested 5"):
        LowShot(shares=()).check(labels)
    with pytest.raises(ValueError, match=r"lowshot: 0.1 of the 4 labeled images of class 1 is less than one image"):
        LowShot(shares=(0.1,), per_class=()).check(labels)


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({}, ["shares=[]", "per_class=[1]"]),
        ({"shares": (0.1, 0.5)}, ["shares=[0.5]", "per_class=[1]"]),
        ({"shares": (), "per_class": (1, 2, 3, 20)}, ["shares=[]", "per_class=[1,2,3]"]),
        ({"shares": (0.1,), "per_class": ()}, ["shares=[]", "per_class=[1]"]),
    ],
)
def test_message_for_too_few_labels_lists_settings_that_work(settings, fix):
    labels = torch.tensor([0] * 30 + [1] * 4)
    with pytest.raises(ValueError, match="every class has enough labels for") as caught:
        LowShot(**settings).check(labels)
    words = str(caught.value).partition("enough labels for ")[2].split()
    assert words == [f"evaluation.lowshot.{change}" for change in fix]
    changed = dict(change.split("=") for change in fix)
    LowShot(**{**settings, **{key: tuple(json.loads(value)) for key, value in changed.items()}}).check(labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shares": (), "per_class": ()}, "nothing to measure"),
        ({"shares": (1.0,)}, "shares must be in"),
        ({"per_class": (0,)}, "per_class must be at least 1"),
        ({"draws": 0}, "draws must be at least 1"),
    ],
)
def test_invalid_settings_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        LowShot(**settings)
