"""Columns of the evaluation tables: the trained weights and baselines of all runs, with shared baselines merged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ssl_lib.report.formats import run_style, style_of
from ssl_lib.report.records import Evaluation, Run

__all__ = ["Column", "columns_of"]


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
    details: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...]


def columns_of(runs: Sequence[Run]) -> list[Column]:
    """Returns the columns of all runs, baselines first; a baseline with equal results in several runs appears once."""
    known = [(n, run.name, run.evaluation) for n, run in enumerate(runs) if isinstance(run.evaluation, Evaluation)]
    columns: list[Column] = []
    for row in dict.fromkeys(row for _, _, evaluation in known for row in evaluation.results.values):
        groups: list[list[Column]] = []
        for number, name, evaluation in known:
            if row in evaluation.results.values:
                style = run_style(number) if row == "trained" and len(runs) > 1 else style_of(row)
                scores, details = evaluation.results[row], evaluation.results.details.get(row, {})
                column = Column(row, name, style, False, scores, details, tuple(evaluation.classes))
                same = [group for group in groups if row != "trained" and all(_agree(one, column) for one in group)]
                if same:
                    same[0].append(column)
                else:
                    groups.append([column])
        shared = len(groups) == 1 and (row != "trained" or len(runs) == 1)
        columns += [_merged(group, shared and len(group) == len(known)) for group in groups]
    return columns


def _agree(one: Column, other: Column) -> bool:
    """Whether both have the same classes and equal values of all metrics they share, at least one."""
    common = one.scores.keys() & other.scores.keys()
    equal = all(math.isclose(one.scores[key], other.scores[key], rel_tol=1e-9) for key in common)
    return bool(common) and equal and one.classes == other.classes


def _merged(group: Sequence[Column], shared: bool) -> Column:
    """Merges the scores and details of a group of columns under all their names."""
    row, names = group[0].row, ", ".join(column.heading for column in group)
    scores = {key: value for column in group for key, value in column.scores.items()}
    details = {key: value for column in group for key, value in column.details.items()}
    heading = row if shared else f"{names}: {row}"
    return replace(group[0], heading=heading, shared=shared, scores=scores, details=details)
