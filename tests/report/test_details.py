"""Details of the protocols: per-class results, sweeps, draws, curves and other values."""

from __future__ import annotations

import re
import statistics

import numpy as np
import pytest
import torch

from ssl_lib.evaluation import Metric, Results, class_report
from ssl_lib.report.page import render_template
from ssl_lib.report.records import Missing, Run
from ssl_lib.report.sections.columns import columns_of
from ssl_lib.report.sections.evaluation import protocol_details
from ssl_lib.runs.results import Evaluation
from tests.report.page import Page

NOTHING = Missing("not part of this test")
ROWS = ("raw pixels", "random init", "trained")


def run(name, details, classes=(), values=None):
    """Returns a run that has only an evaluation."""
    values = values or {row: {} for row in details}
    evaluation = Evaluation(Results((), values, details), 100, 1, classes)
    return Run(name, ".", NOTHING, NOTHING, evaluation, NOTHING, NOTHING, NOTHING)


def page_of(*runs, measures=()):
    """Returns the parsed details section."""
    return Page(render_template("details", **protocol_details(columns_of(runs), measures)))


def report(num_classes, images=30, seed=0):
    """Returns a class report in which accuracy increases with the label, its predictions and its labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_classes).repeat_interleave(images)
    wrong = torch.rand(len(labels), generator=generator) > 0.2 + 0.8 * labels / num_classes
    other = torch.randint(num_classes, labels.shape, generator=generator)
    predictions = torch.where(wrong, other, labels)
    return class_report(predictions, labels, num_classes), predictions.numpy(), labels.numpy()


def test_classes_are_sorted_by_accuracy_lowest_first():
    content, predictions, labels = report(10)
    names = [f"kind {i}" for i in range(10)]
    page = page_of(run("a", {row: {"probe": content} for row in ROWS}, names))
    accuracy = {name: (predictions[labels == i] == i).mean() for i, name in enumerate(names)}
    head = page.rows.index(["class", *ROWS])
    rows = page.rows[head + 1 : head + 11]
    assert [row[0] for row in rows] == sorted(names, key=accuracy.get)
    for row in rows:
        assert row[1:] == [f"{100 * accuracy[row[0]]:.1f} %"] * 3
    widths = [float(a["style"].removeprefix("--fraction:")) for n, a in page.elements if n == "i" and "style" in a]
    assert np.allclose(widths[2::3], sorted(accuracy.values()), atol=1e-3)


def test_many_classes_show_only_lowest_and_highest_unfolded():
    content, *_ = report(60, images=97)
    page = page_of(run("a", {"trained": {"probe": content}}, [f"kind {i}" for i in range(60)]))
    order = np.argsort(content["class_accuracy"], kind="stable")
    listed = [int(row[0].removeprefix("kind ")) for row in page.rows if row[0].startswith("kind ")]
    accuracies = np.array(content["class_accuracy"])[listed]
    assert sorted(listed) == list(range(60)) and listed[:10] == order[:10].tolist()
    assert (np.diff(accuracies[10:20]) <= 0).all() and set(listed[10:20]) == set(order[-10:].tolist())
    assert (np.diff(accuracies[20:]) >= 0).all()
    assert "The 40 classes in between" in page.text()
    assert "Confusion matrix" not in page.text() and " classified as " in page.text()


def test_most_frequent_confusions_are_listed():
    content, predictions, labels = report(10)
    page = page_of(run("a", {"trained": {"probe": content}}))
    wrong = labels != predictions
    pairs, counts = np.unique(np.stack([labels, predictions])[:, wrong], axis=1, return_counts=True)
    items = re.findall(r"class (\d) classified as class (\d) : (\d+) % \((\d+) of 30\)", page.text())
    assert len(items) == 8
    known = {tuple(pair): count for pair, count in zip(pairs.T.tolist(), counts.tolist(), strict=True)}
    listed = {(int(true), int(predicted)): int(count) for true, predicted, _, count in items}
    assert listed.items() <= known.items()
    assert min(listed.values()) >= max((n for pair, n in known.items() if pair not in listed), default=0)
    assert all(int(percentage) == round(100 * int(count) / 30) for _, _, percentage, count in items)


def test_matrix_has_true_classes_by_row_in_percent():
    matrix = [[90, 10, 0], [0, 300, 0], [1, 0, 399]]
    accuracy = [0.9, 1.0, 399 / 400]
    content = {"class_accuracy": accuracy, "confusion": matrix}
    page = page_of(run("a", {"trained": {"probe": content}}, ["cat", "dog", "owl"]))
    head = page.rows.index(["true class", "cat", "dog", "owl"])
    assert page.rows[head + 1 : head + 4] == [
        ["cat", "90", "10", "0"],
        ["dog", "0", "100", "0"],
        ["owl", "<1", "0", "100"],
    ]
    shades = [
        (a["class"], a["style"]) for name, a in page.elements if name == "td" and "--depth" in (a.get("style") or "")
    ]
    assert shades[:3] == [("right", "--depth:95%"), ("wrong", "--depth:100%"), ("none", "--depth:0%")]


def test_class_without_test_images_is_counted_but_not_listed():
    content = {"class_accuracy": [0.5, None, 1.0], "confusion": [[1, 1, 0], [0, 0, 0], [0, 0, 2]]}
    page = page_of(run("a", {"trained": {"probe": content}}, ["cat", "dog", "owl"]))
    assert [row[0] for row in page.rows if len(row) == 2] == ["class", "cat", "owl"]
    assert "lowest first. Without test images: 1 of 3 classes." in page.text()
    perfect = {"class_accuracy": [1.0], "confusion": [[3]]}
    assert "Every test image is classified correctly" in page_of(run("a", {"trained": {"probe": perfect}})).text()


def test_sweep_is_a_curve_with_a_dot_at_the_chosen_setting():
    sweep = {"0.001": 0.3, "0.1": 0.7, "10.0": 0.5}  # JSON converts the keys to strings
    details = {
        "raw pixels": {"probe": {"c": 10.0, "held_out": sweep}},
        "trained": {"probe": {"c": 0.1, "held_out": sweep}},
    }
    page = page_of(run("a", details))
    (curves,) = page.curves()
    assert [(c["title"], c["x"], c["y"]) for c in curves] == [
        (row, [0.001, 0.1, 10.0], [30.0, 70.0, 50.0]) for row in ("raw pixels", "trained")
    ]
    dots = [float(a["cx"]) for name, a in page.elements if name == "circle"]
    assert dots == [350, 198]  # right end and middle of a logarithmic axis from 46 to 350
    assert "held out (%) by C" in page.text() and "Chosen: raw pixels 10; trained 0.1." in page.text()
    assert page.rows == []


def test_draws_are_averaged_and_listed():
    accuracies = [0.5, 0.6, 0.64]
    draws = [
        {"lr": lr, "accuracy": accuracy, "held_out": {"0.1": accuracy, "1.0": accuracy / 2}}
        for lr, accuracy in zip((0.1, 1.0, 0.1), accuracies, strict=True)
    ]
    page = page_of(
        run("a", {"trained": {"linear": {"draws": draws}}}), measures=[Metric("linear", "linear (5 labels)")]
    )
    mean, spread = 100 * statistics.mean(accuracies), 100 * statistics.stdev(accuracies)
    assert ["linear (5 labels)", f"{mean:.1f} ± {spread:.1f} %50.0, 60.0, 64.0"] in page.rows
    assert ["learning rate", "0.1, 1, 0.1"] in page.rows
    (curve,) = page.curves()[0]
    assert np.allclose(curve["y"], [mean, mean / 2], atol=1e-3)


def test_draw_with_nan_is_shown_as_not_finite():
    page = page_of(run("a", {"trained": {"own": {"folds": [{"score": 0.5}, {"score": float("nan")}]}}}))
    assert "not finite" in page.text()


def test_groups_of_draws_have_their_titles():
    few = [{"labels": 10, "accuracy": a, "c": 1.0} for a in (0.2, 0.4)]
    more = [{"labels": 50, "accuracy": 0.5, "c": c} for c in (0.01, 0.1)]
    measures = [Metric("shot_1", "1 label per class"), Metric("shot_5", "5 labels per class")]
    page = page_of(run("a", {"trained": {"lowshot": {"shot_1": few, "shot_5": more}}}), measures=measures)
    assert page.rows[1:] == [
        ["1 label per class", "30.0 ± 14.1 %20.0, 40.0"],
        ["labels", "10"],
        ["C", "1"],
        ["5 labels per class", "50.0 %"],
        ["labels", "50"],
        ["C", "0.01, 0.1"],
    ]


def test_losses_and_long_lists_are_curves():
    losses, many = [2.5, 1.5, 1.0], [i**2 / 7 for i in range(40)]
    page = page_of(run("a", {row: {"tune": {"loss": losses, "spectrum": many}} for row in ROWS[1:]}))
    loss, spectrum = page.curves()
    assert [curve["title"] for curve in loss] == ["random init", "trained"]
    assert loss[0]["x"] == [1, 2, 3] and loss[0]["y"] == losses
    assert np.allclose(spectrum[1]["y"], many, rtol=1e-4)


def test_unknown_values_are_shown_rounded():
    content = {
        "depth": {"layers": {"first": 1 / 3, "names": ["a<b", "c"]}},
        "pairs": [[1 / 3, 2], [3, 4]],
        "mixed": [{"x": 1}, 5],
        "yes": True,
        "none": None,
        "confusion": "none to speak of",
        "class_accuracy": {"cat": 0.25},
        "short": [1.0, 2 / 3],
    }
    page = page_of(run("a", {"trained": {"mine": content}}))
    rows = dict(row for row in page.rows if len(row) == 2)
    assert rows["mine: depth.layers.first"] == "0.3333" and rows["mine: depth.layers.names"] == "a<b, c"
    assert rows["mine: pairs"] == "0.3333, 23, 4"
    assert rows["mine: mixed"] == "x: 15"
    assert (rows["mine: yes"], rows["mine: none"], rows["mine: short"]) == ("yes", "-", "1, 0.6667")
    assert rows["mine: confusion"] == "none to speak of" and rows["mine: class accuracy.cat"] == "0.25"
    assert sum(name == "ol" for name, _ in page.elements) == 2
    assert dict(row for row in page_of(run("a", {"trained": {"mine": [1, 2]}})).rows if len(row) == 2) == {
        "mine": "1, 2",
        "": "trained",
    }


def test_confusion_matrix_without_valid_report_is_shown_as_value():
    rows = page_of(run("a", {"trained": {"mine": {"confusion": [[1, 2], [3, 4]], "class_accuracy": []}}})).rows
    assert rows == [["", "trained"], ["mine: confusion", "1, 23, 4"], ["mine: class accuracy", "none"]]
    rows = page_of(run("a", {"trained": {"mine": {"confusion": [[1, 2], [3]], "class_accuracy": [0.5, 0.25]}}})).rows
    assert rows[1:] == [["class 1", "25.0 %"], ["class 0", "50.0 %"], ["", "trained"], ["mine: confusion", "1, 23"]]


def test_runs_with_the_same_classes_share_a_table():
    (one, *_), (two, *_) = report(4, seed=0), report(4, seed=1)
    cats, dogs = [f"cat {i}" for i in range(4)], [f"dog {i}" for i in range(4)]
    scores = {"random init": {"probe": 0.5}, "trained": {"probe": 0.5}}
    reports = {
        name: {"random init": {"probe": one}, "trained": {"probe": trained}}
        for name, trained in (("a", one), ("b", two))
    }
    same = page_of(*(run(name, content, cats, scores) for name, content in reports.items()))
    assert ["class", "random init", "a: trained", "b: trained"] in same.rows
    assert sum(row[0] == "cat 0" for row in same.rows) == 1 + 2  # a table of accuracies and two matrices
    other = page_of(*(run(name, reports[name], classes, scores) for name, classes in (("a", cats), ("b", dogs))))
    assert ["class", "a: trained"] in other.rows and ["class", "b: trained"] in other.rows


@pytest.mark.parametrize(
    ("scores", "headings"),
    [
        ([{"knn": 0.5}, {"knn": 0.5, "linear": 0.6}], ["random init"]),
        ([{"knn": 0.5}, {"knn": 0.51}], ["a: random init", "b: random init"]),
        ([{"knn": 0.5}, {"linear": 0.5}], ["a: random init", "b: random init"]),
        ([{"knn": 0.5}, {"knn": 0.4}, {"knn": 0.5}], ["a, c: random init", "b: random init"]),
        ([{"knn": 0.5}], ["random init"]),
    ],
)
def test_shared_baseline_appears_once(scores, headings):
    runs = [run(name, {}, (), {"random init": values}) for name, values in zip("abc", scores, strict=False)]
    columns = columns_of(runs)
    assert [column.heading for column in columns] == headings
    if len(headings) == 1:
        assert columns[0].scores == {key: value for values in scores for key, value in values.items()}
