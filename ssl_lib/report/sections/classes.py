"""Per-class accuracies, confusions and confusion matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ssl_lib.report.formats import class_name
from ssl_lib.report.sections.columns import Details

__all__ = ["by_class"]

_TABLE = 24  # classes per table at most
_ENDS = 10  # classes with the lowest and with the highest accuracy that are shown if there are more
_MATRIX = 30  # classes in a confusion matrix at most
_CONFUSIONS = 8


def by_class(details: Sequence[Details]) -> list[dict[str, Any]]:
    """Returns accuracies, confusions and matrices of the columns that have them, grouped by their set of classes."""
    reported = [each for each in details if each.accuracies]
    sets = dict.fromkeys(each.column.classes for each in reported)
    groups = [[each for each in reported if each.column.classes == classes] for classes in sets]
    return [
        {"columns": [each.column for each in group], "tables": _accuracies(group), "matrices": _matrices(group)}
        for group in groups
    ]


def _matrices(group: Sequence[Details]) -> list[dict[str, Any]]:
    """Returns confusions and confusion matrix of the trained weights; with several runs, fewer confusions for each."""
    trained = [each for each in group if each.column.row == "trained" and each.confusion]
    matrices = []
    for each in trained:
        counts = each.confusion
        names = [class_name(each.column.classes, label) for label in range(len(counts))]
        suffix = f" ({each.column.heading})" if len(trained) > 1 else ""
        confusions = _confusions(counts, names, max(3, _CONFUSIONS // len(trained)))
        rows = [[count / max(1, sum(row)) for count in row] for row in counts] if len(counts) <= _MATRIX else []
        worst = max((f for i, row in enumerate(rows) for j, f in enumerate(row) if i != j), default=0.0)
        matrices.append({"suffix": suffix, "confusions": confusions, "names": names, "rows": rows, "worst": worst})
    return matrices


def _confusions(counts: Sequence[Sequence[int]], names: Sequence[str], most: int) -> list[dict[str, Any]]:
    """Returns the most frequent confusions: the names of the two classes, and the number of images."""
    pairs = [(n, true, pred) for true, row in enumerate(counts) for pred, n in enumerate(row) if n and pred != true]
    ranked = sorted(pairs, key=lambda pair: -pair[0])[:most]
    return [{"true": names[t], "predicted": names[p], "count": n, "total": sum(counts[t])} for n, t, p in ranked]


def _accuracies(group: Sequence[Details]) -> list[dict[str, Any]]:
    """Returns one table sorted by the accuracy of trained weights, or for many classes the two ends and the rest."""
    known = [{i: a for i, a in enumerate(each.accuracies) if a is not None and math.isfinite(a)} for each in group]
    ranked = [values for values, each in zip(known, group, strict=True) if each.column.row == "trained"] or known
    count = max(len(each.accuracies) for each in group)
    means = {i: fmean(found) for i in range(count) if (found := [each[i] for each in ranked if i in each])}
    order = sorted(means, key=lambda label: means[label])

    def table(caption: str, labels: Sequence[int]) -> dict[str, Any]:
        classes = group[0].column.classes
        rows = [(class_name(classes, label), [values.get(label) for values in known]) for label in labels]
        return {"caption": caption, "rows": rows}

    if len(order) <= _TABLE:
        omitted = f" Without test images: {count - len(order)} of {count} classes." if len(order) < count else ""
        return [table(f"Accuracy per class, lowest first.{omitted}", order)]
    return [
        table(f"The {_ENDS} classes with the lowest accuracy, of {len(order)}.", order[:_ENDS]),
        table(f"The {_ENDS} classes with the highest accuracy, of {len(order)}.", order[: -_ENDS - 1 : -1]),
        table("Accuracy per class, lowest first.", order[_ENDS:-_ENDS]),
    ]
