"""What the figures of an evaluation say, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ssl_lib.evaluation import Metric, Results
from ssl_lib.report.run import Evaluation

__all__ = ["Verdict", "best_of", "judge", "main_measures"]


_TOLD = 2  # figures of a headline
Scores: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """A headline, a sentence of figures below it, and whether the news is `good`, `mixed`, `bad` or `none`."""

    headline: str
    figures: str
    news: str


def main_measures(results: Results) -> list[Metric]:
    """The protocols' own shares in percent that the trained weights have."""
    trained = results.values.get("trained", {})
    return [m for m in results.measures if m.main and m.percent and math.isfinite(trained.get(m.key, math.nan))]


def judge(evaluation: Evaluation) -> Verdict:
    """Compares the trained weights to random ones and to the pixels; tells the first figures, and those that are worse.

    They are better where one of `main_measures` is, and none is worse. A difference counts where it is more than two
    standard errors of two shares of as many test images.
    """
    results, measures = evaluation.results, main_measures(evaluation.results)
    if not measures:
        return Verdict("The evaluation has no accuracy to judge by", "", "none")
    sides: dict[str, list[int]] = {row: [] for row in results.values if row != "trained"}
    told, kept = [], []
    for measure in measures:
        beside, found = [], list[int]()
        for row in sides:
            if math.isfinite(results[row].get(measure.key, math.nan)):
                gap, noise = _gap(measure, results["trained"], results[row], evaluation.queries)
                found.append((gap > noise) - (gap < -noise))
                sides[row].append(found[-1])
                beside.append(f"{abs(100 * gap):.1f} {'above' if gap >= 0 else 'below'} {_row(row)}")
        gaps = f", {' and '.join(beside)}" if beside else ""
        told.append(f"{measure.title} {100 * results['trained'][measure.key]:.1f}\u00a0%{gaps}")
        kept.append(len(told) <= _TOLD or -1 in found)
    left = len(told) - sum(kept)
    more = f"; {left} more below" if left else ""
    figures = "; ".join(text for text, keep in zip(told, kept, strict=True) if keep)
    return _sentence({row: found for row, found in sides.items() if found}, f"{figures}{more}.")


def _sentence(sides: dict[str, list[int]], figures: str) -> Verdict:
    """By row, for every measure: 1 where the trained weights are above it, -1 where they are below, 0 where level."""
    better = [row for row, found in sides.items() if max(found) > 0 and min(found) >= 0]
    if not sides:
        return Verdict("There is no baseline to compare with", figures, "none")
    if len(better) == len(sides):
        return Verdict(f"It learned: better than {' and '.join(map(_row, sides))}", figures, "good")
    found = sides.get("random init", [0])
    if min(found) < 0 and max(found) <= 0:
        return Verdict("Training made it worse than random weights", figures, "bad")
    left = " or ".join(_row(row) for row in sides if row not in better)
    if better:
        return Verdict(f"It learned something, but is not clearly better than {left}", figures, "mixed")
    return Verdict(f"It is not clearly better than {left}", figures, "bad")


def best_of(evaluations: Sequence[tuple[str, Evaluation]]) -> Verdict | None:
    """Which of several runs is ahead, by the first one's first main measure, where at least two have it."""
    measures = main_measures(evaluations[0][1].results) if evaluations else []
    if not measures:
        return None
    measure = measures[0]
    known = {
        name: (evaluation.results.values["trained"], evaluation.queries)
        for name, evaluation in evaluations
        if math.isfinite(evaluation.results.values.get("trained", {}).get(measure.key, math.nan))
    }
    if len(known) < 2:
        return None
    ranking = sorted(known, key=lambda name: -known[name][0][measure.key])
    (top, queries), (following, _) = known[ranking[0]], known[ranking[1]]
    gap, noise = _gap(measure, top, following, queries)
    figures = "; ".join(f"{name} {100 * scores[measure.key]:.1f}\u00a0%" for name, (scores, _) in known.items())
    headline = f"{ranking[0]} is ahead" if gap > noise else f"{ranking[0]} and {ranking[1]} are level"
    return Verdict(headline, f"{measure.title}: {figures}.", "good" if gap > noise else "mixed")


def _gap(measure: Metric, one: Scores, other: Scores, queries: int | None) -> tuple[float, float]:
    """How far one row is above another, and two standard errors of that."""
    variance = 0.0
    for scores in (one, other):
        share = scores[measure.key]
        variance += max(0.0, share * (1 - share)) / queries if queries else 0.0
    return one[measure.key] - other[measure.key], 2 * math.sqrt(variance)


def _row(row: str) -> str:
    return {"random init": "random weights"}.get(row, row)
