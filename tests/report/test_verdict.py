"""The verdict on an evaluation, and the chart of accuracies."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ssl_lib.evaluation import Metric, Results
from ssl_lib.report.page import render_template
from ssl_lib.report.records import Missing, Run
from ssl_lib.report.sections.overview import overview
from ssl_lib.runs.results import Evaluation
from ssl_lib.runs.verdict import best_of, judge
from tests.report.page import Page


def evaluation(trained, random=0.5, pixels=0.6, queries=1000, **more):
    """Returns an evaluation with one accuracy, kNN, and one other metric."""
    values = {"raw pixels": {"knn": pixels}, "random init": {"knn": random}, "trained": {"knn": trained, **more}}
    return Evaluation(Results((Metric("knn", "kNN"), Metric("rank", "rank", percent=False)), values, {}), queries, 1)


@pytest.mark.parametrize(
    ("trained", "news", "words"),
    [
        (0.7, "good", "Better than raw pixels and random weights"),
        (0.61, "mixed", "Better than random weights, but not clearly better than raw pixels"),
        (0.51, "bad", "Not clearly better than raw pixels or random weights"),
        (0.4, "bad", "Worse than random weights"),
        (math.nan, "none", "no accuracy to compare"),
    ],
)
def test_verdict_requires_two_standard_errors(trained, news, words):
    verdict = judge(evaluation(trained))
    assert (verdict.news, words in verdict.headline) == (news, True)
    if news == "good":
        assert verdict.figures == "kNN 70.0\u00a0%, 10.0 points above raw pixels and 20.0 points above random weights."
    if trained == 0.61:  # 2 * sqrt((.61 * .39 + .6 * .4) / n) is below 0.01 from n = 19,116 on
        assert judge(evaluation(0.61, queries=19_000)).news == "mixed"
        assert judge(evaluation(0.61, queries=19_200)).news == "good"


def test_verdict_lists_the_first_metrics_and_every_lower_one():
    measures = tuple(Metric(f"m{i}", f"metric {i}") for i in range(5))
    random = {measure.key: 0.5 for measure in measures}
    results = Results(measures, {"random init": random, "trained": {**random, "m0": 0.7, "m3": 0.3}}, {})
    verdict = judge(Evaluation(results, 1000, 1))
    assert verdict.figures == (
        "metric 0 70.0\u00a0%, 20.0 points above random weights; "
        "metric 1 50.0\u00a0%, 0.0 points above random weights (within noise); "
        "metric 3 30.0\u00a0%, 20.0 points below random weights; 2 more in the table."
    )


@pytest.mark.parametrize(
    ("fractions", "ends", "positions"),
    [
        ((0.55, 0.6, 0.79), ("50 %", "80 %"), (16.67, 33.33, 96.67)),
        ((1.0, 1.0, 1.0), ("90 %", "100 %"), (100, 100, 100)),
        ((0.0, 0.0, 0.0), ("0 %", "10 %"), (0, 0, 0)),
        ((0.3, 0.5, 0.7), ("30 %", "70 %"), (0, 50, 100)),
    ],
)
def test_accuracies_are_dots_on_one_scale(fractions, ends, positions):
    result = evaluation(fractions[2], fractions[1], fractions[0])
    missing = Missing("not part of this test")
    runs = [Run("a", Path("a"), missing, missing, result, missing, missing, missing)]
    page = Page(render_template("overview", runs=runs, **overview(runs)))
    dots = [float(a["style"][5:-1]) for _, a in page.elements if (a.get("style") or "").startswith("left:")]
    assert dots == list(positions)
    assert f"{ends[0]} {ends[1]}" in page.text()


def headline(**runs):
    return best_of(
        [(name, run if isinstance(run, Evaluation) else evaluation(run)) for name, run in runs.items()]
    ).headline


def test_best_run_needs_a_clear_difference():
    assert headline(a=0.7, b=0.8) == "b is best"
    assert headline(a=0.7, b=0.71) == "b and a are about equal"
    assert best_of([("a", evaluation(0.7))]) is None
    assert best_of([]) is None


def test_best_run_is_compared_with_all_others():
    assert headline(a=0.7, b=0.71, c=0.705) == "b, c and a are about equal"
    assert headline(a=0.7, b=0.71, c=0.3) == "b is best, but not clearly better than a"
    assert headline(a=0.7, b=0.71, c=0.705, d=0.3) == "b is best, but not clearly better than c and a"
    assert headline(a=0.7, b=0.9, c=0.705) == "b is best"


def test_every_run_has_the_standard_error_of_its_own_test_images():
    """2 * sqrt(.7 * .3 / n + .76 * .24 / m) is .0397 for 1,000 images each, and .0958 with 100 for one of them."""
    assert headline(a=0.7, b=0.76) == "b is best"
    for few in ({"a": 100}, {"b": 100}):
        runs = [(name, evaluation(value, queries=few.get(name, 1000))) for name, value in (("a", 0.7), ("b", 0.76))]
        assert best_of(runs).headline == "b and a are about equal"


def scored(*metrics):
    """Returns an evaluation with these headings and accuracies; the key is the heading's first word."""
    keys = [title.split()[0] for title, _ in metrics]
    measures = [Metric(key, title) for key, (title, _) in zip(keys, metrics, strict=True)]
    trained = {key: value for key, (_, value) in zip(keys, metrics, strict=True)}
    return Evaluation(Results((Metric("rank", "rank", percent=False), *measures), {"trained": trained}, {}), 1000, 1)


def test_runs_are_compared_by_the_first_metric_that_most_of_them_have():
    runs = [
        ("a", scored(("kNN", 0.9), ("linear", 0.5))),
        ("b", scored(("linear", 0.6))),
        ("c", scored(("linear", 0.4))),
    ]
    verdict = best_of(runs)
    assert verdict.headline == "b is best"
    assert verdict.figures == "linear: a 50.0\u00a0%; b 60.0\u00a0%; c 40.0\u00a0%."
    assert best_of([("a", scored()), ("b", scored(("kNN", 0.9))), ("c", scored(("kNN", 0.5)))]).headline == "b is best"
    assert best_of([("a", scored(("kNN", 0.9))), ("b", scored(("linear", 0.6)))]) is None
    assert best_of([("a", scored(("kNN (k=20)", 0.9))), ("b", scored(("kNN (k=50)", 0.6)))]) is None
