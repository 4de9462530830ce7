"""Curves of what was logged, and how fast it went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from ssl_lib.doctor import Doctor
from ssl_lib.report.curves import grouped, meaning, speed, values_of
from ssl_lib.report.html import Html, tag
from ssl_lib.report.numbers import shown
from ssl_lib.report.run import Missing, Run, Table
from ssl_lib.report.sections.common import legend, missing, run_style, section, table
from ssl_lib.report.svg import Series, line_chart

__all__ = ["training"]

Curve: TypeAlias = tuple[int, str, list[float], list[float]]
"""Number and name of a run, steps and values."""


def training(runs: Sequence[Run]) -> Html:
    """A small chart per figure, all runs in each; what was logged once is a sentence."""
    names = dict.fromkeys(name for run in runs for line in _lines(run) for name in line)
    curves = {name: [(n, run.name, *values_of(_lines(run), name)) for n, run in enumerate(runs)] for name in names}
    drawn = [name for name, found in curves.items() if any(len(values) > 1 for _, _, _, values in found)]
    key = legend((run.name, run_style(number)) for number, run in enumerate(runs)) if len(runs) > 1 else None
    alone = runs[0].diagnosis if len(runs) == 1 else None
    facts = alone.history.facts if isinstance(alone, Doctor) else None
    groups = []
    for title, figures in grouped(drawn).items():
        charts = [_chart(name, meaning(name, facts), curves[name]) for name in figures]
        groups += [tag("h3", title), tag("div", charts, class_="charts")]
    once = _once({name: found for name, found in curves.items() if name not in drawn}, len(runs) > 1)
    about = "Every line of metrics.jsonl, by update. A red cross marks a value that is NaN or infinite."
    return section("training", "Training", about, missing(runs, "metrics"), key, groups, once, _speeds(runs))


def _lines(run: Run) -> Sequence[Table]:
    return [] if isinstance(run.metrics, Missing) else run.metrics


def _chart(name: str, about: str, curves: Sequence[Curve]) -> Html:
    curves = [curve for curve in curves if curve[3]]
    series = [Series(title, steps, values, run_style(number)) for number, title, steps, values in curves]
    told = [_summary(title, values, len(curves) > 1) for _, title, _, values in curves]
    output = tag("output", shown(curves[0][3][-1]) if len(curves) == 1 else None, aria_live="polite")
    heading = tag("span", tag("strong", name), output, class_="chart-title")
    caption = tag("figcaption", heading, tag("span", about, class_="meaning") if about else None)
    return tag("figure", caption, line_chart(series, label=f"{name} by step: {'; '.join(told)}", x_title="step"))


def _once(curves: dict[str, list[Curve]], named: bool) -> Html | None:
    """Figures with one value, such as those of an evaluation at the end."""
    told = [
        f"{f'{title} ' if named else ''}{name} {shown(values[0])} at step {shown(steps[0])}"
        for name, found in curves.items()
        for _, title, steps, values in found
        if values and name not in ("step", "epoch")
    ]
    return tag("p", f"Logged once: {'; '.join(told)}.", class_="once") if told else None


def _summary(title: str, values: Sequence[float], named: bool) -> str:
    finite = [value for value in values if math.isfinite(value)]
    spread = f", between {shown(min(finite))} and {shown(max(finite))}" if finite else ""
    return f"{f'{title} ' if named else ''}from {shown(values[0])} to {shown(values[-1])}{spread}"


def _speeds(runs: Sequence[Run]) -> Html | None:
    rows = []
    for run in runs:
        found = speed(_lines(run))
        if found is not None:
            waits = (f"{100 * found.data_wait:.1f} %", f"{100 * found.longest_wait:.1f} %")
            rows.append((run.name, shown(round(found.images_per_second, 1)), *waits))
    if not rows:
        return None
    head = ("run", "images per second", "waiting for data", "longest wait")
    return table("Throughput: medians over the logged lines, and the worst line's wait.", head, rows)
