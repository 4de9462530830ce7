"""Whose figures stand side by side in the tables of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ssl_lib.report.run import Evaluation, Run
from ssl_lib.report.sections.common import run_style, style_of

__all__ = ["Column", "columns_of"]


@dataclass(frozen=True)
class Column:
    """What was measured of one subject.

    Attributes:
        row: `raw pixels`, `random init` or `trained`.
        heading: The same, and the run's name where there are several.
        style: Its CSS class.
        shared: Whether it is of all runs, or of the one there is.
        scores: Its figures by key.
        details: What else the protocols kept, by protocol.
        classes: The names of the test images' classes, by label.
    """

    row: str
    heading: str
    style: str
    shared: bool
    scores: Mapping[str, float]
    details: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...]


def columns_of(runs: Sequence[Run]) -> list[Column]:
    """The subjects of all runs, the baselines first; a baseline that is the same in several runs stands there once."""
    known = [(n, run.name, run.evaluation) for n, run in enumerate(runs) if isinstance(run.evaluation, Evaluation)]
    columns: list[Column] = []
    for row in dict.fromkeys(row for _, _, found in known for row in found.results.values):
        groups: list[list[Column]] = []
        for number, name, found in known:
            if row in found.results.values:
                style = run_style(number) if row == "trained" and len(runs) > 1 else style_of(row)
                column = _column(found, row, name, style)
                same = [group for group in groups if row != "trained" and all(_agree(one, column) for one in group)]
                if same:
                    same[0].append(column)
                else:
                    groups.append([column])
        shared = len(groups) == 1 and (row != "trained" or len(runs) == 1)
        columns += [_joined(group, shared and len(group) == len(known)) for group in groups]
    return columns


def _column(found: Evaluation, row: str, name: str, style: str) -> Column:
    details = found.results.details.get(row, {})
    return Column(row, name, style, False, found.results[row], details, tuple(found.classes))


def _agree(one: Column, other: Column) -> bool:
    """Whether they are of the same images, and alike in all figures that both have."""
    common = one.scores.keys() & other.scores.keys()
    alike = all(math.isclose(one.scores[key], other.scores[key], rel_tol=1e-9) for key in common)
    return bool(common) and alike and one.classes == other.classes


def _joined(group: Sequence[Column], shared: bool) -> Column:
    """What any of them has, under all their names."""
    row, names = group[0].row, ", ".join(column.heading for column in group)
    scores = {key: value for column in group for key, value in column.scores.items()}
    details = {key: value for column in group for key, value in column.details.items()}
    heading = row if shared else f"{names}: {row}"
    return replace(group[0], heading=heading, shared=shared, scores=scores, details=details)
