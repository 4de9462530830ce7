"""Evaluation section: the metrics in evaluation.json, and the details of the protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssl_lib.evaluation import Metric
from ssl_lib.report.charts import Figure, Series, line_chart
from ssl_lib.report.formats import format_number, number_of
from ssl_lib.report.records import Evaluation, Run
from ssl_lib.report.sections.classes import Column, by_class, class_report_of, columns_of
from ssl_lib.report.sections.draws import CHOSEN, draw_table, is_draws, is_sweep, plain, sweeps
from ssl_lib.utils.yaml import flat

__all__ = ["details", "evaluation"]

_LONG = 12  # entries of a list that the template writes out; longer lists of numbers are drawn as curves
_PARTS = {"classes": "accuracy per class", "sweeps": "hyperparameters tried", "draws": "draws", "curves": "curves"}


def evaluation(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the columns and metrics of the table, followed by the protocols' details."""
    known = [run.evaluation for run in runs if isinstance(run.evaluation, Evaluation)]
    columns = columns_of(runs)
    every = {measure.key: measure for result in known for measure in result.results.measures}.values()
    measures = [measure for measure in every if any(measure.key in column.scores for column in columns)]
    return {"columns": columns, "measures": measures, **details(columns, [*every])}


def details(columns: Sequence[Column], measures: Sequence[Metric]) -> dict[str, Any]:
    """Returns per-class results, sweeps, draws and curves of each protocol, and one table of all other values.

    Only the first per-class results are unfolded. With several runs, only the trained weights and the baselines that
    all runs share are included.
    """
    columns = [column for column in columns if column.shared or column.row == "trained"]
    titles = {measure.key: measure.title for measure in measures}
    protocols, others = list[dict[str, Any]](), list[tuple[str, list[Any]]]()
    for protocol in dict.fromkeys(protocol for column in columns for protocol in column.details):
        title = titles.get(protocol, protocol)
        contents = [_Content(column, column.details.get(protocol, {})) for column in columns]
        draws = [(content.column, content.draws) for content in contents if content.draws]
        parts: dict[str, Any] = {
            "classes": by_class(columns, protocol),
            "sweeps": sweeps(draws),
            "draws": draw_table(draws, {**titles, "draws": title}),
            "curves": _curves(contents),
        }
        if named := [_PARTS[name] for name, part in parts.items() if part]:
            opened = bool(parts["classes"]) and not any(earlier["classes"] for earlier in protocols)
            heads = [column.heading for column, _ in draws]
            summary = f"{title}: {', '.join(named)}"
            protocols.append({"summary": summary, "opened": opened, "draw_heads": heads, **parts})
        others += _others(protocol, contents)
    return {"protocols": protocols, "others": others, "heads": [column.heading for column in columns]}


class _Content:
    """A protocol's details for one subject, without the class report, sorted into draws, curves and the rest."""

    def __init__(self, column: Column, content: Any) -> None:
        content = content if isinstance(content, Mapping) else {"": content}
        content = {key: value for key, value in content.items() if key not in class_report_of(content)}
        self.column = column
        self.draws = {key: value for key, value in content.items() if is_draws(value)}
        if swept := {key: value for key, value in content.items() if is_sweep(value)}:
            chosen = {key: content[key] for key in CHOSEN if number_of(content.get(key)) is not None}
            self.draws[""] = [{**swept, **chosen}]
        self.curves = {key: value for key, value in content.items() if _is_curve(key, value)}
        used = {*self.draws, *self.curves, *self.draws.get("", [{}])[0]}
        self.rest = {key: value for key, value in content.items() if key not in used}


def _is_curve(key: str, value: object) -> bool:
    if not isinstance(value, list) or len(value) < 2 or any(number_of(entry) is None for entry in value):
        return False
    return key == "loss" or len(value) > _LONG


def _curves(contents: Sequence[_Content]) -> list[Figure]:
    figures = []
    for key in dict.fromkeys(key for content in contents for key in content.curves):
        known = [(content.column, content.curves[key]) for content in contents if key in content.curves]
        series = [Series(c.heading, range(1, len(values) + 1), values, c.style) for c, values in known]
        ranges = "; ".join(f"{s.title} from {format_number(s.y[0])} to {format_number(s.y[-1])}" for s in series)
        chart = line_chart(series, label=f"{plain(key)}: {ranges}", x_title="epoch" if key == "loss" else "index")
        figures.append(Figure(plain(key), series, chart))
    return figures


def _others(protocol: str, contents: Sequence[_Content]) -> list[tuple[str, list[Any]]]:
    """Returns name and cells of a row per value; nested values have dotted keys."""
    values = [flat(content.rest) for content in contents]
    keys = dict.fromkeys(key for entries in values for key in entries)
    names = {key: f"{protocol}: {plain(key)}" if key else protocol for key in keys}
    return [(names[key], [entries.get(key) for entries in values]) for key in keys]
