"""Class by class: how often each was told right, and what it was taken for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.sections.columns import Column
from ssl_lib.report.sections.common import bar, captioned, class_name, fold, note, scrolling, table

__all__ = ["by_class", "class_report_of"]

_TABLE = 24  # classes of one table, at most
_ENDS = 10  # weakest and strongest classes shown of more
_MATRIX = 30  # classes of a confusion matrix, at most
_CONFUSIONS = 8


def class_report_of(content: object) -> dict[str, list[Any]]:
    """Of the details of a protocol those that `class_report` made, if it made any."""
    found = {} if not isinstance(content, Mapping) else content
    accuracy, confusion = found.get("class_accuracy"), found.get("confusion")
    if not isinstance(accuracy, list) or not all(entry is None or isinstance(entry, int | float) for entry in accuracy):
        return {}
    report = {"class_accuracy": accuracy} if accuracy else {}
    if report and isinstance(confusion, list) and all(_is_row(row, len(confusion)) for row in confusion):
        report["confusion"] = confusion
    return report


def by_class(columns: Sequence[Column], protocol: str) -> list[Child]:
    """Accuracies and confusions of the columns that have them; runs on other classes get tables of their own."""
    told = [column for column in columns if _of(column, protocol, "class_accuracy")]
    parts: list[Child] = []
    for classes in dict.fromkeys(column.classes for column in told):
        some = [column for column in told if column.classes == classes]
        trained = [column for column in some if column.row == "trained" and _of(column, protocol, "confusion")]
        lists = [_confusions(column, protocol, len(trained)) for column in trained]
        tables = _accuracies(some, protocol)
        if len(tables) == 1:
            parts.append(tag("div", tables[0], tag("div", lists) if lists else None, class_="pair classwise"))
        else:
            parts += [tag("div", tables[:2], class_="pair classwise"), tables[2:], lists]
        parts += [
            fold(f"Confusion matrix{f' of {c.heading}' if len(trained) > 1 else ''}", _matrix(c, protocol))
            for c in trained
            if len(_of(c, protocol, "confusion")) <= _MATRIX
        ]
    return parts


def _of(column: Column, protocol: str, key: str) -> list[Any]:
    """That entry of the class report, empty where there is none."""
    return class_report_of(column.details.get(protocol)).get(key, [])


def _is_row(row: object, width: int) -> bool:
    return isinstance(row, list) and len(row) == width and all(isinstance(n, int) and n >= 0 for n in row)


def _accuracies(columns: Sequence[Column], protocol: str) -> list[Html]:
    """One table, the weakest class first; of many classes the weakest, the strongest, and folded away the others."""
    values = {column.heading: _of(column, protocol, "class_accuracy") for column in columns}
    judged = [values[c.heading] for c in columns if c.row == "trained"] or list(values.values())
    means = {label: _mean(judged, label) for label in range(max(map(len, judged)))}
    order = sorted((label for label, mean in means.items() if mean is not None), key=lambda label: means[label] or 0.0)

    def made(caption: str, labels: Sequence[int]) -> Html:
        rows: list[list[Child]] = []
        for label in labels:
            cells = [_cell(values[c.heading], label, c.style) for c in columns]
            rows.append([tag("span", class_name(columns[0].classes, label), class_="label"), *cells])
        return table(caption, ["class", *(column.heading for column in columns)], rows, "bars")

    if len(order) <= _TABLE:
        left_out = len(means) - len(order)
        besides = f"; {left_out} without a test image" if left_out else ""
        return [made(f"Accuracy of each class, the weakest first{besides}.", order)]
    count = f"of {len(order)} classes"
    middle = order[_ENDS:-_ENDS]
    return [
        made(f"The {_ENDS} weakest {count}, by accuracy.", order[:_ENDS]),
        made(f"The {_ENDS} strongest {count}.", order[: -_ENDS - 1 : -1]),
        fold(f"The {len(middle)} classes in between", made("The weakest first.", middle)),
    ]


def _mean(judged: Sequence[Sequence[float | None]], label: int) -> float | None:
    known = [value for each in judged if label < len(each) and (value := each[label]) is not None]
    return fmean(known) if known else None


def _cell(values: Sequence[float | None], label: int, style: str) -> Child:
    value = values[label] if label < len(values) else None
    return "-" if value is None or not math.isfinite(value) else bar(value, f"{100 * value:.1f}\u00a0%", style)


def _confusions(column: Column, protocol: str, runs: int) -> Html:
    """The most frequent ones, in words; fewer of each where there are several runs."""
    matrix = _of(column, protocol, "confusion")
    counts = [(row[said], true, said) for true, row in enumerate(matrix) for said in range(len(row)) if said != true]
    most = sorted((entry for entry in counts if entry[0]), key=lambda entry: -entry[0])[: max(3, _CONFUSIONS // runs)]
    title = f"Most frequent confusions{f' of {column.heading}' if runs > 1 else ''}"
    if not most:
        return tag("div", tag("h4", title), note("No test image was taken for another class."))
    items = []
    for count, true, said in most:
        total, names = sum(matrix[true]), (class_name(column.classes, true), class_name(column.classes, said))
        share = f"{100 * count / total:.0f}\u00a0%"
        text = tag("b", names[0]), " taken for ", tag("b", names[1]), f": {share} "
        items.append(tag("li", text, tag("span", f"({count:,} of {total:,})", class_="aside")))
    return tag("div", tag("h4", title), tag("ul", items, class_="confusions"))


def _matrix(column: Column, protocol: str) -> Html:
    """True classes by row, colored by share: hits by themselves, errors beside the most frequent of them."""
    matrix = _of(column, protocol, "confusion")
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    worst = max((s for i, row in enumerate(shares) for j, s in enumerate(row) if i != j), default=0.0)
    names = [class_name(column.classes, label) for label in range(len(matrix))]
    head = [tag("th", tag("span", name, title=name), scope="col") for name in names]
    corner = tag("th", "true class, by row", scope="col")
    rows = [
        tag(
            "tr",
            tag("th", tag("span", name, title=name), scope="row"),
            [_shade(share, i == j, worst) for j, share in enumerate(row)],
        )
        for i, (name, row) in enumerate(zip(names, shares, strict=True))
    ]
    caption = captioned("Of the images of each class, by row, the share in percent taken for each class.")
    whole = tag("table", caption, tag("thead", tag("tr", corner, head)), tag("tbody", rows), class_="matrix")
    return scrolling(whole, "confusion matrix")


def _shade(share: float, right: bool, worst: float) -> Html:
    text = "0" if share == 0 else "<1" if share < 0.005 else f"{100 * share:.0f}"
    depth = share if right else share / worst if worst else 0.0
    kind = "right" if right else "wrong" if share else "none"
    return tag("td", text, class_=kind, style=f"--depth:{100 * math.sqrt(depth):.0f}%")
