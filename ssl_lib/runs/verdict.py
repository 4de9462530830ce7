"""Summarizes an evaluation in a sentence: whether the trained weights beat the baselines; imports no torch."""

from __future__ import annotations

import math
from collections import Counter
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
    counts if it exceeds two standard errors of the difference of two accuracies, each on all test images; smaller ones
    are within noise. The verdict lists the first metrics and every metric that is below a baseline.
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
                gap, sign = _difference(trained, evaluation.queries, value, evaluation.queries)
                sides[row].append(sign)
                signs.append(sign)
                noise = "" if sign else " (within noise)"
                gaps.append(f"{abs(100 * gap):.1f} points {'above' if gap >= 0 else 'below'} {_row(row)}{noise}")
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
    """Names the best of several runs by a main metric in percent, and the runs that are not clearly worse.

    The metric is the first one that most runs have. The best run is compared with every other run by the difference of
    `judge`; each accuracy has the standard error of its own number of test images.

    Returns:
        The verdict; None unless two runs have a metric of the same name and heading.
    """
    runs = {name: {m.key: m for m in main_measures(evaluation.results)} for name, evaluation in evaluations}
    counts = Counter((m.key, m.title) for measures in runs.values() for m in measures.values())
    (key, title), count = max(counts.items(), key=lambda item: item[1], default=(("", ""), 0))
    if count < 2:
        return None
    known = {
        name: (evaluation.results["trained"][key], evaluation.queries)
        for name, evaluation in evaluations
        if key in runs[name] and runs[name][key].title == title
    }
    best, *others = sorted(known, key=lambda name: -known[name][0])
    equal = [name for name in others if _difference(*known[best], *known[name])[1] <= 0]
    if not equal:
        headline = f"{best} is best"
    elif equal == others:
        headline = f"{_enumerated([best, *equal])} are about equal"
    else:
        headline = f"{best} is best, but not clearly better than {_enumerated(equal)}"
    figures = "; ".join(f"{name} {100 * accuracy:.1f}\u00a0%" for name, (accuracy, _) in known.items())
    return Verdict(headline, f"{title}: {figures}.", "mixed" if equal else "good")


def _enumerated(names: Sequence[str]) -> str:
    """Joins names: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _difference(one: float, tested: int | None, other: float, others_tested: int | None) -> tuple[float, int]:
    """Compares two accuracies, each with its number of test images, None if it is not known.

    Returns:
        The difference, and its sign, or 0 if the difference is within two standard errors.
    """
    counts = ((one, tested), (other, others_tested))
    variance = sum(max(0.0, accuracy * (1 - accuracy)) / count for accuracy, count in counts if count)
    gap, noise = one - other, 2 * math.sqrt(variance)
    return gap, (gap > noise) - (gap < -noise)


def _row(row: str) -> str:
    return {"random init": "random weights"}.get(row, row)
