"""Columns of the evaluation tables: baselines and trained weights, with the details of the protocols by their form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ssl_lib.config.convert import convert
from ssl_lib.errors import ConfigError
from ssl_lib.report.formats import run_style, style_of
from ssl_lib.report.records import Run
from ssl_lib.runs.results import Evaluation

__all__ = ["CHOSEN", "Column", "Details", "columns_of", "details_of", "is_sweep"]

CHOSEN = {"lr": "learning rate", "c": "C"}
"""Names of the hyperparameters that a sweep selects, by their key in the details."""
_LONG = 12  # entries of a list that the template writes out; longer lists of numbers are curves


@dataclass(frozen=True)
class Column:
    """Evaluation results of raw pixels, random weights or trained weights, of one run or the same of several runs.

    A `shared` column belongs to all runs, or to the only one. Its scores are by metric, its details by protocol.
    """

    row: str
    heading: str
    style: str
    shared: bool
    scores: Mapping[str, float]
    details: Mapping[str, Any]
    classes: tuple[str, ...]


class Details(NamedTuple):
    """The details of a protocol in one column, by their form."""

    column: Column
    accuracies: list[float | None]  # of each class; None if it has no test images
    confusion: list[list[int]]  # number of images by true and by predicted class
    draws: dict[str, list[dict[str, Any]]]  # by group; a draw has numbers and sweeps
    curves: dict[str, list[float]]
    rest: dict[str, Any]


def columns_of(runs: Sequence[Run]) -> list[Column]:
    """Returns the columns of all runs, baselines first; a baseline with equal results in several runs appears once."""
    known = [(n, run.name, run.evaluation) for n, run in enumerate(runs) if isinstance(run.evaluation, Evaluation)]
    columns: list[Column] = []
    for row in dict.fromkeys(row for _, _, evaluation in known for row in evaluation.results.values):
        evaluated = [entry for entry in known if row in entry[2].results.values]
        merged: list[Column] = []
        for number, name, evaluation in evaluated:
            style = run_style(number) if row == "trained" and len(runs) > 1 else style_of(row)
            scores, details = evaluation.results[row], evaluation.results.details.get(row, {})
            column = Column(row, name, style, False, scores, details, tuple(evaluation.classes))
            same = next((i for i, other in enumerate(merged) if row != "trained" and _agree(other, column)), None)
            if same is None:
                merged.append(column)
            else:
                merged[same] = _merged(merged[same], column)
        shared = len(merged) == 1 and (len(runs) == 1 or (row != "trained" and len(evaluated) == len(known)))
        headings = [row if shared else f"{column.heading}: {row}" for column in merged]
        columns += [replace(c, heading=heading, shared=shared) for c, heading in zip(merged, headings, strict=True)]
    return columns


def _agree(one: Column, other: Column) -> bool:
    """Whether both have the same classes and equal values of all metrics they share, at least one."""
    common = one.scores.keys() & other.scores.keys()
    equal = all(math.isclose(one.scores[key], other.scores[key], rel_tol=1e-9) for key in common)
    return bool(common) and equal and one.classes == other.classes


def _merged(one: Column, other: Column) -> Column:
    scores, details = {**one.scores, **other.scores}, {**one.details, **other.details}
    return replace(one, heading=f"{one.heading}, {other.heading}", scores=scores, details=details)


def details_of(column: Column, protocol: str) -> Details:
    """Sorts the details of a protocol, which may be any JSON data, by their form."""
    content = column.details.get(protocol, {})
    rest = dict(content) if isinstance(content, Mapping) else {"": content}

    def take(fits: Callable[[str, Any], bool]) -> dict[str, Any]:
        return {key: rest.pop(key) for key, value in [*rest.items()] if fits(key, value)}

    accuracies = rest.pop("class_accuracy") if _fits(rest.get("class_accuracy"), list[float | None]) else []
    confusion = rest.pop("confusion") if accuracies and _is_matrix(rest.get("confusion")) else []
    draws = take(lambda key, value: _is_draws(value))
    if swept := take(lambda key, value: is_sweep(value)):
        draws[""] = [swept | take(lambda key, value: key in CHOSEN and _fits([value], list[float]))]
    curves = take(lambda key, value: _fits(value, list[float]) and len(value) > (1 if key == "loss" else _LONG))
    return Details(column, accuracies, confusion, draws, curves, rest)


def is_sweep(value: Any) -> bool:
    """Whether a value maps numeric settings to numbers, for example learning rates to accuracies."""
    try:
        return _fits(value, dict[str, float]) and all(math.isfinite(float(setting)) for setting in value)
    except ValueError:
        return False


def _is_draws(value: Any) -> bool:
    """Whether a value is a list of draws, which are mappings that contain only numbers and sweeps."""
    typed = _fits(value, list[dict[str, float | dict[str, float]]])
    return typed and all(is_sweep(entry) for draw in value for entry in draw.values() if isinstance(entry, Mapping))


def _is_matrix(value: Any) -> bool:
    return _fits(value, list[list[int]]) and all(len(row) == len(value) and min(row) >= 0 for row in value)


def _fits(value: Any, form: Any) -> bool:
    """Whether a value is not empty and of a type, such as `list[float]`."""
    try:
        return bool(value) and bool(convert(value, form, ""))
    except ConfigError:
        return False
