"""Summarizes an evaluation in a sentence: whether the trained weights beat the baselines; imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssl_lib.runs.results import Evaluation, Metric, Results

__all__ = ["Verdict", "best_of", "judge", "main_measures"]

_SHOWN = 2  # metrics in the headline, apart from those below a baseline


@dataclass(frozen=True)
class Verdict:
    """A headline, a sentence with the metrics, and `news`: `good`, `mixed`, `bad` or `none`."""

    headline: str
    figures: str
    news: str

    def line(self) -> str:
        """The verdict as a line of plain text."""
        text = f"{self.headline}: {self.figures}" if self.figures else f"{self.headline}."
        return text.replace("\u00a0", " ")


def main_measures(results: Results) -> list[Metric]:
    """Returns the main metrics in percent for which the trained weights have a finite value."""
    trained = results.values.get("trained", {})
    return [m for m in results.measures if m.main and m.percent and math.isfinite(trained.get(m.key, math.nan))]


def judge(evaluation: Evaluation) -> Verdict:
    """Compares the trained weights with random weights and raw pixels.

    The trained weights are better than a baseline if one of `main_measures` is higher and none is lower. A difference
    counts if it exceeds two standard errors of the difference of two accuracies, each on all test images. The verdict
    lists the first metrics and every metric that is below a baseline.
    """
    results, measures = evaluation.results, main_measures(evaluation.results)
    if not measures:
        return Verdict("The evaluation has no accuracy to compare", "", "none")
    sides: dict[str, list[int]] = {row: [] for row in results.values if row != "trained"}
    texts: list[str] = []
    for measure in measures:
        gaps, signs, trained = [], list[int](), results["trained"][measure.key]
        for row in sides:
            if math.isfinite(value := results[row].get(measure.key, math.nan)):
                gap, sign = _difference(trained, value, evaluation.queries)
                sides[row].append(sign)
                signs.append(sign)
                gaps.append(f"{abs(100 * gap):.1f} points {'above' if gap >= 0 else 'below'} {_row(row)}")
        if len(texts) < _SHOWN or -1 in signs:
            texts.append(f"{measure.title} {100 * trained:.1f}\u00a0%{', ' if gaps else ''}{' and '.join(gaps)}")
    left = len(measures) - len(texts)
    more = f"; {left} more in the table" if left else ""
    return _sentence({row: signs for row, signs in sides.items() if signs}, f"{'; '.join(texts)}{more}.")


def _sentence(sides: dict[str, list[int]], figures: str) -> Verdict:
    """Returns the verdict from the signs of the differences to each baseline: 1 above, -1 below, 0 neither."""
    better = [row for row, signs in sides.items() if max(signs) > 0 and min(signs) >= 0]
    if not sides:
        return Verdict("The evaluation has no baseline to compare with", figures, "none")
    if len(better) == len(sides):
        return Verdict(f"Better than {' and '.join(map(_row, sides))}", figures, "good")
    random = sides.get("random init", [0])
    if min(random) < 0 and max(random) <= 0:
        return Verdict("Worse than random weights", figures, "bad")
    left = " or ".join(_row(row) for row in sides if row not in better)
    if better:
        above = " and ".join(map(_row, better))
        return Verdict(f"Better than {above}, but not clearly better than {left}", figures, "mixed")
    return Verdict(f"Not clearly better than {left}", figures, "bad")


def best_of(evaluations: Sequence[tuple[str, Evaluation]]) -> Verdict | None:
    """Names the best of several runs by the first run's first main metric; None unless two runs have this metric."""
    measures = main_measures(evaluations[0][1].results) if evaluations else []
    if not measures:
        return None
    measure, known = measures[0], dict[str, float]()
    for name, evaluation in evaluations:
        accuracy = evaluation.results.values.get("trained", {}).get(measure.key, math.nan)
        if math.isfinite(accuracy):
            known[name] = accuracy
    if len(known) < 2:
        return None
    first, second = sorted(known, key=lambda name: -known[name])[:2]
    _, sign = _difference(known[first], known[second], dict(evaluations)[first].queries)
    figures = "; ".join(f"{name} {100 * accuracy:.1f}\u00a0%" for name, accuracy in known.items())
    headline = f"{first} is best" if sign > 0 else f"{first} and {second} are about equal"
    return Verdict(headline, f"{measure.title}: {figures}.", "good" if sign > 0 else "mixed")


def _difference(one: float, other: float, queries: int | None) -> tuple[float, int]:
    """Returns the difference of two accuracies, and its sign, or 0 if it is within two standard errors."""
    variance = sum(max(0.0, accuracy * (1 - accuracy)) / queries for accuracy in (one, other)) if queries else 0.0
    gap, noise = one - other, 2 * math.sqrt(variance)
    return gap, (gap > noise) - (gap < -noise)


def _row(row: str) -> str:
    return {"random init": "random weights"}.get(row, row)
