"""What the protocols of an evaluation kept beside their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssl_lib.evaluation import Metric
from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.numbers import number_of, shown
from ssl_lib.report.sections.classes import by_class, class_report_of
from ssl_lib.report.sections.columns import Column
from ssl_lib.report.sections.common import fold, table, titled
from ssl_lib.report.sections.draws import CHOSEN, Draws, draw_table, is_draws, is_sweep, plain, sweeps
from ssl_lib.report.svg import Series, line_chart
from ssl_lib.utils.yaml import flat

__all__ = ["details"]

_LONG = 12  # entries of a list that are written out; more numbers are a curve


@dataclass(frozen=True)
class _Kept:
    """What a protocol kept of one subject, but for the classes, by its shape."""

    column: Column
    draws: Mapping[str, Sequence[Mapping[str, Any]]]
    curves: Mapping[str, Sequence[float]]
    rest: Mapping[str, Any]


def details(columns: Sequence[Column], measures: Sequence[Metric]) -> list[Html]:
    """Classes, sweeps, draws and curves of each protocol, the first classes unfolded; all else in one table.

    Of several runs only the trained weights, and the baselines that they share.
    """
    columns = [column for column in columns if column.shared or column.row == "trained"]
    titles = {measure.key: measure.title for measure in measures}
    folds, rest, opened = list[Html](), list[list[Child]](), False
    for protocol in dict.fromkeys(protocol for column in columns for protocol in column.details):
        kept = [_sorted(column, column.details.get(protocol, {})) for column in columns]
        draws = [Draws(each.column, each.draws) for each in kept if each.draws]
        numbers = draw_table(draws, {**titles, "draws": titles.get(protocol, protocol)}) if draws else None
        parts: dict[str, list[Child]] = {
            "class by class": by_class(columns, protocol),
            "settings tried": _grid(sweeps(draws)),
            "draws": [numbers] if numbers else [],
            "curves": _grid(_curves(kept)),
        }
        named = [name for name, part in parts.items() if part]
        if named:
            summary = f"{titles.get(protocol, protocol)}: {', '.join(named)}"
            folds.append(fold(summary, *parts.values(), open_=not opened and "class by class" in named))
            opened = opened or "class by class" in named
        rest += _rest(protocol, kept)
    if rest:
        heads = ["", *(column.heading for column in columns)]
        folds.append(fold("Small print of the protocols", table("What else they kept.", heads, rest)))
    return folds


def _sorted(column: Column, content: Any) -> _Kept:
    content = content if isinstance(content, Mapping) else {"": content}
    content = {key: value for key, value in content.items() if key not in class_report_of(content)}
    draws = {key: value for key, value in content.items() if is_draws(value)}
    alone = {key: value for key, value in content.items() if is_sweep(value)}
    if alone:
        draws[""] = [{**alone, **{key: content[key] for key in CHOSEN if number_of(content.get(key)) is not None}}]
    curves = {key: value for key, value in content.items() if _is_curve(key, value)}
    used = {*draws, *curves, *draws.get("", [{}])[0]}
    rest = {key: value for key, value in content.items() if key not in used}
    return _Kept(column, draws, curves, rest)


def _is_curve(key: str, value: object) -> bool:
    if not isinstance(value, list) or len(value) < 2 or any(number_of(entry) is None for entry in value):
        return False
    return key == "loss" or len(value) > _LONG


def _grid(charts: Sequence[Html]) -> list[Child]:
    return [tag("div", charts, class_="charts")] if charts else []


def _curves(kept: Sequence[_Kept]) -> list[Html]:
    figures = []
    for key in dict.fromkeys(key for each in kept for key in each.curves):
        series = [_series(each.column, each.curves[key]) for each in kept if key in each.curves]
        told = "; ".join(f"{one.title} from {shown(one.y[0])} to {shown(one.y[-1])}" for one in series)
        chart = line_chart(series, label=f"{plain(key)}: {told}", x_title="epoch" if key == "loss" else "place")
        figures.append(tag("figure", titled(plain(key), [(one.title, one.style) for one in series]), chart))
    return figures


def _series(column: Column, values: Sequence[float]) -> Series:
    return Series(column.heading, range(1, len(values) + 1), values, column.style)


def _rest(protocol: str, kept: Sequence[_Kept]) -> list[list[Child]]:
    """A row per value, nested ones by dotted keys."""
    values = [flat(each.rest) for each in kept]
    rows: list[list[Child]] = []
    for key in dict.fromkeys(key for found in values for key in found):
        name = f"{protocol}: {plain(key)}" if key else protocol
        rows.append([name, *("-" if key not in found else _text(found[key]) for found in values)])
    return rows


def _text(value: object) -> Child:
    """Numbers rounded, lists as lists, long ones cut."""
    if isinstance(value, list):
        if all(not isinstance(entry, list | Mapping) for entry in value):
            more = f", and {len(value) - _LONG} more" if len(value) > _LONG else ""
            return ", ".join(str(_text(entry)) for entry in value[:_LONG]) + more if value else "none"
        extra = tag("li", f"and {len(value) - _LONG} more") if len(value) > _LONG else None
        return tag("ol", [tag("li", _text(entry)) for entry in value[:_LONG]], extra)
    if isinstance(value, Mapping):
        return [tag("div", str(key), ": ", _text(entry)) for key, entry in value.items()]
    if value is None or isinstance(value, bool):
        return "-" if value is None else "yes" if value else "no"
    number = number_of(value)
    return str(value) if number is None else shown(number)
