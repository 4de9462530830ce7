"""Columns of the evaluation tables, and per-class accuracies, confusions and confusion matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from ssl_lib.report.formats import class_name, run_style, style_of
from ssl_lib.report.records import Evaluation, Run

__all__ = ["Column", "by_class", "class_report_of", "columns_of"]

_TABLE = 24  # classes per table at most
_ENDS = 10  # classes with the lowest and with the highest accuracy that are shown if there are more
_MATRIX = 30  # classes in a confusion matrix at most
_CONFUSIONS = 8


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


def class_report_of(content: object) -> dict[str, list[Any]]:
    """Returns the entries of a protocol's details that `class_report` made, or an empty dict."""
    entries = content if isinstance(content, Mapping) else {}
    accuracy, confusion = entries.get("class_accuracy"), entries.get("confusion")
    if not isinstance(accuracy, list) or not all(entry is None or isinstance(entry, int | float) for entry in accuracy):
        return {}
    report = {"class_accuracy": accuracy} if accuracy else {}
    if report and isinstance(confusion, list) and all(_is_row(row, len(confusion)) for row in confusion):
        report["confusion"] = confusion
    return report


def by_class(columns: Sequence[Column], protocol: str) -> list[dict[str, Any]]:
    """Returns accuracies, confusions and matrices of the columns that have them, grouped by their set of classes."""
    reported = [column for column in columns if _entry(column, protocol, "class_accuracy")]
    sets = dict.fromkeys(column.classes for column in reported)
    return [_group([column for column in reported if column.classes == classes], protocol) for classes in sets]


def _group(columns: Sequence[Column], protocol: str) -> dict[str, Any]:
    """Returns the tables of columns with the same classes; with several runs, fewer confusions for each."""
    trained = [column for column in columns if column.row == "trained" and _entry(column, protocol, "confusion")]
    matrices = []
    for column in trained:
        counts = _entry(column, protocol, "confusion")
        names = [class_name(column.classes, label) for label in range(len(counts))]
        suffix = f" ({column.heading})" if len(trained) > 1 else ""
        confusions = _confusions(counts, names, max(3, _CONFUSIONS // len(trained)))
        rows = [[count / max(1, sum(row)) for count in row] for row in counts] if len(counts) <= _MATRIX else []
        worst = max((f for i, row in enumerate(rows) for j, f in enumerate(row) if i != j), default=0.0)
        matrices.append({"suffix": suffix, "confusions": confusions, "names": names, "rows": rows, "worst": worst})
    return {"columns": columns, "tables": _accuracies(columns, protocol), "matrices": matrices}


def _entry(column: Column, protocol: str, key: str) -> list[Any]:
    """Returns an entry of the column's class report, empty if there is none."""
    return class_report_of(column.details.get(protocol)).get(key, [])


def _is_row(row: object, width: int) -> bool:
    return isinstance(row, list) and len(row) == width and all(isinstance(n, int) and n >= 0 for n in row)


def _accuracies(columns: Sequence[Column], protocol: str) -> list[dict[str, Any]]:
    """Returns one table sorted by accuracy, or for many classes the lowest, the highest and the rest."""
    values = [_entry(column, protocol, "class_accuracy") for column in columns]
    ranked = [each for each, column in zip(values, columns, strict=True) if column.row == "trained"] or values
    known = {label: _known(ranked, label) for label in range(max(map(len, ranked)))}
    means = {label: fmean(each) for label, each in known.items() if each}
    order = sorted(means, key=lambda label: means[label])

    def table(caption: str, labels: Sequence[int]) -> dict[str, Any]:
        rows = [(class_name(columns[0].classes, label), [_known([each], label) for each in values]) for label in labels]
        return {"caption": caption, "rows": rows}

    if len(order) <= _TABLE:
        left_out = len(known) - len(order)
        omitted = f" Without test images: {left_out} of {len(known)} classes." if left_out else ""
        return [table(f"Accuracy per class, lowest first.{omitted}", order)]
    return [
        table(f"The {_ENDS} classes with the lowest accuracy, of {len(order)}.", order[:_ENDS]),
        table(f"The {_ENDS} classes with the highest accuracy, of {len(order)}.", order[: -_ENDS - 1 : -1]),
        table("Accuracy per class, lowest first.", order[_ENDS:-_ENDS]),
    ]


def _known(accuracies: Sequence[Sequence[float | None]], label: int) -> list[float]:
    """Returns the accuracies of a class, without those that are missing or not finite."""
    values = [each[label] for each in accuracies if label < len(each)]
    return [value for value in values if value is not None and math.isfinite(value)]


def _confusions(counts: Sequence[Sequence[int]], names: Sequence[str], most: int) -> list[dict[str, Any]]:
    """Returns the most frequent confusions: the names of the two classes, and the number of images."""
    pairs = [(n, true, pred) for true, row in enumerate(counts) for pred, n in enumerate(row) if n and pred != true]
    ranked = sorted(pairs, key=lambda pair: -pair[0])[:most]
    return [{"true": names[t], "predicted": names[p], "count": n, "total": sum(counts[t])} for n, t, p in ranked]
