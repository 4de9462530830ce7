"""Per-class accuracy tables, most frequent confusions and confusion matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ssl_lib.report.formats import class_name
from ssl_lib.report.sections.columns import Column

__all__ = ["by_class", "class_report_of"]

_TABLE = 24  # classes per table at most
_ENDS = 10  # classes with the lowest and with the highest accuracy that are shown if there are more
_MATRIX = 30  # classes in a confusion matrix at most
_CONFUSIONS = 8


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
