"""Settings that a protocol tried, and draws that it averaged over."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.numbers import number_of, shown
from ssl_lib.report.sections.columns import Column
from ssl_lib.report.sections.common import table, titled
from ssl_lib.report.svg import Series, line_chart
from ssl_lib.runs.results import mean_and_spread

__all__ = ["CHOSEN", "Draws", "draw_table", "is_draws", "is_sweep", "plain", "sweeps"]

CHOSEN = {"lr": "learning rate", "c": "C"}
"""Settings that are chosen from a sweep, by their key beside it, and what they are called."""


@dataclasses.dataclass(frozen=True)
class Draws:
    """What a protocol kept of one subject, draw by draw: `of[group]` is a mapping per draw."""

    column: Column
    of: Mapping[str, Sequence[Mapping[str, Any]]]


def is_sweep(value: object) -> bool:
    """Whether it is figures by a setting that is a number, such as accuracies by learning rate."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(_setting(key) is not None and number_of(entry) is not None for key, entry in value.items())


def is_draws(value: object) -> bool:
    """Whether it is a list of draws that hold figures and sweeps and nothing else."""
    if not isinstance(value, list) or not value or not all(isinstance(draw, Mapping) and draw for draw in value):
        return False
    return all(number_of(entry) is not None or is_sweep(entry) for draw in value for entry in draw.values())


def plain(key: str) -> str:
    """A key in words."""
    return CHOSEN.get(key, key.replace("_", " "))


def sweeps(kept: Sequence[Draws]) -> list[Html]:
    """A chart per sweep, of several draws their mean."""
    keys = {
        (group, key): None
        for each in kept
        for group, draws in each.of.items()
        for draw in draws
        for key, value in draw.items()
        if is_sweep(value)
    }
    groups = [group for group, _ in keys]
    return [_sweep(kept, group, key, groups.index(group) == place) for place, (group, key) in enumerate(keys)]


def draw_table(kept: Sequence[Draws], titles: Mapping[str, str]) -> Html | None:
    """A row per figure of the draws: mean, standard deviation and single values; `titles` are those of the groups."""
    rows = list[list[Child]]()
    for group in dict.fromkeys(group for each in kept for group in each.of):
        found = [each.of.get(group, ()) for each in kept]
        alone = max(map(len, found)) == 1
        swept = any(is_sweep(value) for draws in found for draw in draws for value in draw.values())
        if alone and swept:  # all of it is in the sweep and in the table of figures
            continue
        fields = {key: None for draws in found for draw in draws for key, value in draw.items() if not is_sweep(value)}
        title = titles.get(group, plain(group))
        for key in sorted(fields, key=lambda key: key != "accuracy"):
            head = title if key == "accuracy" else tag("span", plain(key), class_="minor")
            rows.append([head, *(_cell(key, [draw[key] for draw in draws if key in draw]) for draws in found)])
    if not rows:
        return None
    heads = ["", *(each.column.heading for each in kept)]
    return table("Draw by draw: mean ± standard deviation, and below each draw's own.", heads, rows, "draws")


def _sweep(kept: Sequence[Draws], group: str, key: str, first: bool) -> Html:
    """The settings from left to right, their figures as a curve per subject, the chosen ones as dots."""
    names, series, chosen = set[str](), list[Series](), list[str]()
    for each in kept:
        draws = [draw for draw in each.of.get(group, ()) if is_sweep(draw.get(key))]
        if draws:
            names |= {name for draw in draws for name in CHOSEN if name in draw}
            picks = sorted({float(draw[name]) for draw in draws for name in CHOSEN if name in draw})
            series.append(_curve(each.column, [draw[key] for draw in draws], picks))
            chosen.append(f"{each.column.heading} {', '.join(map(shown, picks))}")
    share = all(0 <= value <= 1 for one in series for value in one.y)
    of = CHOSEN[min(names)] if names else "setting"
    if share:
        series = [dataclasses.replace(one, y=[100 * value for value in one.y]) for one in series]
    title = f"{plain(key)}{', %' if share else ''}, by {of}"
    label = f"{title}: " + "; ".join(f"{one.title} at most {shown(max(one.y))}" for one in series)
    chart = line_chart(series, label=label, x_title="", log_x=all(x > 0 for one in series for x in one.x))
    about = tag("span", f"Chosen: {'; '.join(chosen)}.", class_="meaning") if names and first else None
    return tag("figure", titled(title, [(one.title, one.style) for one in series], about), chart)


def _curve(column: Column, draws: Sequence[Mapping[str, float]], picks: Sequence[float]) -> Series:
    """The mean over the draws of each setting."""
    values: dict[float, list[float]] = {}
    for draw in draws:
        for setting, value in draw.items():
            values.setdefault(float(setting), []).append(value)
    settings = sorted(values)
    means = [fmean(values[setting]) for setting in settings]
    return Series(column.heading, settings, means, column.style, picks)


def _cell(key: str, values: Sequence[float]) -> Child:
    """One value where all draws agree; else the mean and spread of a measured one, and every draw's."""
    share = key == "accuracy"
    if not values:
        return "-"
    if len(set(values)) == 1:
        return _number(values[0], share)
    single = ", ".join(f"{100 * v:.1f}" if share else shown(v) for v in values)
    if key in CHOSEN:
        return tag("span", single, class_="singles")
    scale = 100 if share else 1
    unit = "\u00a0%" if share else ""
    mean, spread = (scale * (value or 0.0) for value in mean_and_spread(values))
    told = f"{mean:.1f} ±\u00a0{spread:.1f}{unit}" if share else f"{shown(mean)} ±\u00a0{shown(spread)}"
    if not math.isfinite(mean):
        told = shown(mean)
    return [tag("b", told), tag("span", single, class_="singles")]


def _number(value: float, share: bool) -> str:
    return f"{100 * value:.1f}\u00a0%" if share else shown(value)


def _setting(key: object) -> float | None:
    try:
        value = float(str(key))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
