"""A few labels: which, how often, and what is refused."""

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
    made = EvaluatedEncoder("trained", torch.nn.Identity(), images, images)
    made.features = Features(x[:120], labels[:120], x[120:], labels[120:])
    return made


def test_every_figure_is_the_mean_over_draws_and_has_its_spread(subject):
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


def test_classes_that_cannot_give_so_many_are_named_with_the_settings_that_they_can_give():
    labels = torch.tensor([0] * 30 + [1] * 4)
    with pytest.raises(
        ValueError, match=r"lowshot.per_class: class 1 has 4 labeled images, fewer than the 5 asked for"
    ):
        LowShot(shares=()).check(labels)
    with pytest.raises(ValueError, match=r"lowshot.shares: 0.1 of the 4 labeled images of class 1 is not even one"):
        LowShot(shares=(0.1,), per_class=()).check(labels)


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({}, ["shares=[]", "per_class=[1]"]),
        ({"shares": (0.1, 0.5)}, ["shares=[0.5]", "per_class=[1]"]),
        ({"shares": (), "per_class": (1, 2, 3, 20)}, ["per_class=[1,2,3]"]),
        ({"shares": (0.1,), "per_class": ()}, ["shares=[]", "per_class=[1]"]),
    ],
)
def test_all_that_the_classes_cannot_give_is_told_at_once_as_changes_to_paste(settings, cure):
    labels = torch.tensor([0] * 30 + [1] * 4)
    with pytest.raises(ValueError, match="every class has labels enough for") as caught:
        LowShot(**settings).check(labels)
    words = str(caught.value).partition("enough for ")[2].split()
    assert words == [f"evaluation.lowshot.{change}" for change in cure]
    changed = dict(change.split("=") for change in cure)
    LowShot(**{**settings, **{key: tuple(json.loads(value)) for key, value in changed.items()}}).check(labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shares": (), "per_class": ()}, "nothing to measure"),
        ({"shares": (1.0,)}, "shares must lie in"),
        ({"per_class": (0,)}, "per_class must be at least 1"),
        ({"draws": 0}, "draws must be at least 1"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        LowShot(**settings)
