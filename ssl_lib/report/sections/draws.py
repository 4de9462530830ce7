"""Charts of hyperparameter sweeps and tables of the draws that a protocol averages over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, TypeAlias

from ssl_lib.report.charts import Figure, Series, line_chart
from ssl_lib.report.formats import format_number, number_of
from ssl_lib.report.sections.classes import Column
from ssl_lib.runs.results import mean_and_spread

__all__ = ["CHOSEN", "draw_table", "is_draws", "is_sweep", "plain", "sweeps"]

CHOSEN = {"lr": "learning rate", "c": "C"}
"""Names of the hyperparameters that a sweep selects, by their key in the details."""
Draws: TypeAlias = tuple[Column, Mapping[str, Sequence[Mapping[str, Any]]]]
"""The draws of a protocol for one subject, by group; a draw is a mapping of values."""


def is_sweep(value: object) -> bool:
    """Whether a value maps numeric settings to numbers, for example learning rates to accuracies."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(_is_setting(key) and number_of(entry) is not None for key, entry in value.items())


def is_draws(value: object) -> bool:
    """Whether a value is a list of draws, which are mappings that contain only numbers and sweeps."""
    if not isinstance(value, list) or not value or not all(isinstance(draw, Mapping) and draw for draw in value):
        return False
    return all(number_of(entry) is not None or is_sweep(entry) for draw in value for entry in draw.values())


def plain(key: str) -> str:
    """Returns a key in words."""
    return CHOSEN.get(key, key.replace("_", " "))


def sweeps(subjects: Sequence[Draws]) -> list[Figure]:
    """Returns a chart per sweep, which shows the mean over the draws; dots mark the chosen settings."""
    keys = {
        (group, key): None
        for _, groups in subjects
        for group, draws in groups.items()
        for draw in draws
        for key, value in draw.items()
        if is_sweep(value)
    }
    order = [group for group, _ in keys]
    return [_sweep(subjects, group, key, order.index(group) == index) for index, (group, key) in enumerate(keys)]


def draw_table(subjects: Sequence[Draws], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns a table row per metric, with the mean, standard deviation and individual values of the draws.

    Args:
        subjects: The draws, a column per subject.
        titles: Row titles of the groups' accuracies, by group.
    """
    rows = []
    for group in dict.fromkeys(group for _, groups in subjects for group in groups):
        columns = [groups.get(group, ()) for _, groups in subjects]
        values = {key: value for draws in columns for draw in draws for key, value in draw.items()}
        fields = [key for key, value in values.items() if not is_sweep(value)]
        if max(map(len, columns)) == 1 and len(fields) < len(values):
            continue  # already in the sweep and in the table of metrics
        for key in sorted(fields, key=lambda key: key != "accuracy"):
            title = titles.get(group, plain(group)) if key == "accuracy" else plain(key)
            cells = [_cell(key, [draw[key] for draw in draws if key in draw]) for draws in columns]
            rows.append({"title": title, "minor": key != "accuracy", "cells": cells})
    return rows


def _sweep(subjects: Sequence[Draws], group: str, key: str, first: bool) -> Figure:
    names, series = set[str](), list[Series]()
    for column, groups in subjects:
        draws = [draw for draw in groups.get(group, ()) if is_sweep(draw.get(key))]
        if draws:
            names |= {name for draw in draws for name in CHOSEN if name in draw}
            picks = sorted({float(draw[name]) for draw in draws for name in CHOSEN if name in draw})
            series.append(_mean(column, [draw[key] for draw in draws], picks))
    percent = all(0 <= value <= 1 for one in series for value in one.y)
    if percent:
        series = [replace(one, y=[100 * value for value in one.y]) for one in series]
    title = f"{plain(key)}{' (%)' if percent else ''} by {CHOSEN[min(names)] if names else 'setting'}"
    label = f"{title}: " + "; ".join(f"{one.title} at most {format_number(max(one.y))}" for one in series)
    chart = line_chart(series, label=label, log_x=all(x > 0 for one in series for x in one.x))
    chosen = "; ".join(f"{one.title} {', '.join(map(format_number, one.chosen))}" for one in series)
    return Figure(title, series, chart, about=f"Chosen: {chosen}." if names and first else "")


def _mean(column: Column, draws: Sequence[Mapping[str, float]], picks: Sequence[float]) -> Series:
    """Returns the mean over the draws for each setting."""
    values: dict[float, list[float]] = {}
    for draw in draws:
        for setting, value in draw.items():
            values.setdefault(float(setting), []).append(value)
    settings = sorted(values)
    return Series(column.heading, settings, [fmean(values[setting]) for setting in settings], column.style, picks)


def _cell(key: str, values: Sequence[float]) -> tuple[str, str]:
    """Returns the value on which all draws agree, or the mean with standard deviation and the values of all draws."""
    percent = key == "accuracy"
    if len(set(values)) < 2:
        unit = "\u00a0%" if percent else ""
        return f"{_digits(values[0], percent)}{unit}" if values else "-", ""
    every = ", ".join(_digits(value, percent) for value in values)
    mean, spread = (value or 0.0 for value in mean_and_spread(values))
    if key in CHOSEN or not math.isfinite(mean):
        return "" if key in CHOSEN else format_number(mean), every
    unit = "\u00a0%" if percent else ""
    return f"{_digits(mean, percent)} ±\u00a0{_digits(spread, percent)}{unit}", every


def _digits(value: float, percent: bool) -> str:
    return f"{100 * value:.1f}" if percent else format_number(value)


def _is_setting(key: object) -> bool:
    try:
        return math.isfinite(float(str(key)))
    except ValueError:
        return False
