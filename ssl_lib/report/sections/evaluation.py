"""Evaluation section: the metrics in evaluation.json, and the details of the protocols."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from ssl_lib.evaluation import Metric
from ssl_lib.report.charts import Series, make_chart
from ssl_lib.report.formats import format_number
from ssl_lib.report.records import Run
from ssl_lib.report.sections.classes import by_class
from ssl_lib.report.sections.columns import CHOSEN, Column, Details, columns_of, details_of, is_sweep
from ssl_lib.runs.results import Evaluation, mean_and_spread
from ssl_lib.utils.yaml import flat

__all__ = ["evaluation", "protocol_details"]

_PARTS = {"classes": "accuracy per class", "sweeps": "hyperparameters tried", "draws": "draws", "curves": "curves"}


def evaluation(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the columns and metrics of the table, followed by the protocols' details."""
    known = [run.evaluation for run in runs if isinstance(run.evaluation, Evaluation)]
    columns = columns_of(runs)
    every = {measure.key: measure for result in known for measure in result.results.measures}.values()
    measures = [measure for measure in every if any(measure.key in column.scores for column in columns)]
    return {"columns": columns, "measures": measures, **protocol_details(columns, [*every])}


def protocol_details(columns: Sequence[Column], measures: Sequence[Metric]) -> dict[str, Any]:
    """Returns per-class results, sweeps, draws and curves of each protocol, and one table of all other values.

    Only the first per-class results are unfolded. With several runs, only the trained weights and the baselines that
    all runs share are included.
    """
    columns = [column for column in columns if column.shared or column.row == "trained"]
    titles = {measure.key: measure.title for measure in measures}
    protocols, others = list[dict[str, Any]](), list[tuple[str, list[Any]]]()
    for protocol in dict.fromkeys(protocol for column in columns for protocol in column.details):
        title = titles.get(protocol, protocol)
        details = [details_of(column, protocol) for column in columns]
        drawn = [each for each in details if each.draws]
        parts: dict[str, Any] = {
            "classes": by_class(details),
            "sweeps": _sweeps(drawn),
            "draws": _draw_rows(drawn, {**titles, "draws": title}),
            "curves": _curves(details),
        }
        if named := [_PARTS[name] for name, part in parts.items() if part]:
            opened = bool(parts["classes"]) and not any(earlier["classes"] for earlier in protocols)
            heads = [each.column.heading for each in drawn]
            summary = f"{title}: {', '.join(named)}"
            protocols.append({"summary": summary, "opened": opened, "draw_heads": heads, **parts})
        others += _others(protocol, details)
    return {"protocols": protocols, "others": others, "heads": [column.heading for column in columns]}


def _sweeps(details: Sequence[Details]) -> list[dict[str, Any]]:
    """Returns a chart per sweep, which shows the mean over the draws; dots mark the chosen settings."""
    draws = [(group, draw) for each in details for group, draws in each.draws.items() for draw in draws]
    keys = dict.fromkeys((group, key) for group, draw in draws for key, value in draw.items() if is_sweep(value))
    return [_sweep(details, group, key) for group, key in keys]


def _sweep(details: Sequence[Details], group: str, key: str) -> dict[str, Any]:
    series, names = list[Series](), set[str]()
    for each in details:
        if draws := [draw for draw in each.draws.get(group, ()) if is_sweep(draw.get(key))]:
            swept = [{float(setting): value for setting, value in draw[key].items()} for draw in draws]
            x = sorted({setting for values in swept for setting in values})
            y = [fmean(values[setting] for values in swept if setting in values) for setting in x]
            picks = [(name, draw[name]) for draw in draws for name in CHOSEN if name in draw]
            chosen = sorted({value for _, value in picks if not is_sweep(value)})
            series.append(Series(each.column.heading, x, y, each.column.style, chosen))
            names |= {name for name, _ in picks}
    percent = all(0 <= value <= 1 for one in series for value in one.y)
    if percent:
        series = [replace(one, y=[100 * value for value in one.y]) for one in series]
    title = f"{_plain(key)}{' (%)' if percent else ''} by {CHOSEN[min(names)] if names else 'setting'}"
    about = "; ".join(f"{one.title} {', '.join(map(format_number, one.chosen))}" for one in series)
    log = "x" if all(x > 0 for one in series for x in one.x) else ""
    return make_chart(title, series, about=f"Chosen: {about}." if names else "", log=log)


def _draw_rows(details: Sequence[Details], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns a row per metric, with mean, deviation and values of the draws; `titles` are of groups' accuracies."""
    rows = []
    for group in dict.fromkeys(group for each in details for group in each.draws):
        columns = [each.draws.get(group, ()) for each in details]
        values = {key: value for draws in columns for draw in draws for key, value in draw.items()}
        fields = [key for key, value in values.items() if not is_sweep(value)]
        if max(map(len, columns)) == 1 and len(fields) < len(values):
            continue  # already in the sweep and in the table of metrics
        for key in sorted(fields, key=lambda key: key != "accuracy"):
            title = titles.get(group, _plain(group)) if key == "accuracy" else _plain(key)
            cells = [_cell(key, [draw[key] for draw in draws if key in draw]) for draws in columns]
            rows.append({"title": title, "minor": key != "accuracy", "cells": cells})
    return rows


def _cell(key: str, values: Sequence[float]) -> tuple[str, str]:
    """Returns the value on which all draws agree, or the mean with standard deviation and the values of all draws."""
    unit = "\u00a0%" if key == "accuracy" else ""

    def text(value: float) -> str:
        return f"{100 * value:.1f}" if unit else format_number(value)

    if len(set(values)) < 2:
        return f"{text(values[0])}{unit}" if values else "-", ""
    every = ", ".join(map(text, values))
    if key in CHOSEN:
        return "", every
    mean, spread = (value or 0.0 for value in mean_and_spread(values))
    return f"{text(mean)} ±\u00a0{text(spread)}{unit}" if math.isfinite(mean) else "not finite", every


def _curves(details: Sequence[Details]) -> list[dict[str, Any]]:
    charts = []
    for key in dict.fromkeys(key for each in details for key in each.curves):
        known = [(each.column, each.curves[key]) for each in details if key in each.curves]
        series = [Series(c.heading, range(1, len(values) + 1), values, c.style) for c, values in known]
        charts.append(make_chart(_plain(key), series, x_title="epoch" if key == "loss" else "index"))
    return charts


def _others(protocol: str, details: Sequence[Details]) -> list[tuple[str, list[Any]]]:
    """Returns name and cells of a row per value; nested values have dotted keys."""
    values = [flat(each.rest) for each in details]
    keys = dict.fromkeys(key for entries in values for key in entries)
    names = {key: f"{protocol}: {_plain(key)}" if key else protocol for key in keys}
    return [(names[key], [entries.get(key) for entries in values]) for key in keys]


def _plain(key: str) -> str:
    """Returns a key in words."""
    return CHOSEN.get(key, key.replace("_", " "))
