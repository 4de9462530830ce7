"""What evaluation.json holds, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.numbers import measured, shown
from ssl_lib.report.run import Evaluation, Run
from ssl_lib.report.sections.common import missing, section, table

__all__ = ["evaluation"]

_LONG = 12  # numbers of a list that are written out


def evaluation(runs: Sequence[Run]) -> Html:
    """One table, a row per figure; runs measured on the same images share the columns of the baselines."""
    known = [(run.name, run.evaluation) for run in runs if isinstance(run.evaluation, Evaluation)]
    about = "Labelled test images the network was not trained on; the trained weights beside two baselines."
    body = [_table(known, len(runs) > 1), [_details(name, found, len(runs) > 1) for name, found in known]]
    return section("evaluation", "Evaluation", about, missing(runs, "evaluation"), body if known else None)


def _table(known: Sequence[tuple[str, Evaluation]], several: bool) -> Html:
    columns = _columns(known, several)
    measures = {m.key: m for _, found in known for m in found.results.measures}
    rows: list[list[Child]] = []
    for measure in measures.values():
        if any(measure.key in scores for _, _, scores in columns):
            cells = [(row == "trained", measured(measure, scores)) for row, _, scores in columns]
            name = tag("span", measure.title, class_=None if measure.main else "minor")
            rows.append([name, *(tag("b", text) if trained else text for trained, text in cells)])
    return table(_caption(known), ["figure", *(title for _, title, _ in columns)], rows, "scores")


def _columns(known: Sequence[tuple[str, Evaluation]], several: bool) -> list[tuple[str, str, Mapping[str, float]]]:
    """Row of the results, heading and figures, the baselines first; those that all runs share stand there once."""
    columns: list[tuple[str, str, Mapping[str, float]]] = []
    for row in dict.fromkeys(row for _, found in known for row in found.results.values):
        having = [(name, found.results[row]) for name, found in known if row in found.results.values]
        if row != "trained" and len(having) == len(known) and all(scores == having[0][1] for _, scores in having):
            columns.append((row, row, having[0][1]))
        else:
            columns += [(row, f"{name}: {row}" if several else row, scores) for name, scores in having]
    return columns


def _caption(known: Sequence[tuple[str, Evaluation]]) -> str:
    told = []
    for name, found in known:
        images = f"{found.queries:,} test images" if isinstance(found.queries, int) else "test images"
        steps = f" after {found.steps:,} steps" if isinstance(found.steps, int) else ""
        told.append(f"{f'{name}: ' if len(known) > 1 else ''}{images}{steps}")
    return "; ".join(told) + ". ± is one standard deviation over draws."


def _details(name: str, found: Evaluation, several: bool) -> list[Html]:
    """What a protocol kept of every row."""
    of = f" ({name})" if several else ""
    kept: dict[str, dict[str, object]] = {}
    for row, protocols in found.results.details.items():
        for protocol, content in protocols.items():
            kept.setdefault(protocol, {})[row] = content
    return [tag("details", tag("summary", f"More from {key}{of}"), _tree(rows)) for key, rows in kept.items()]


def _tree(value: object) -> Child:
    """Nested values as nested lists; long lists of numbers by their length and range."""
    if isinstance(value, Mapping):
        return tag("dl", [[tag("dt", str(key)), tag("dd", _tree(entry))] for key, entry in value.items()])
    if isinstance(value, list):
        numbers = [entry for entry in value if isinstance(entry, int | float)]
        if len(value) == len(numbers):
            if len(numbers) > _LONG:
                return f"{len(numbers)} numbers from {shown(min(numbers))} to {shown(max(numbers))}"
            return ", ".join(map(shown, numbers))
        extra = tag("li", f"and {len(value) - _LONG} more") if len(value) > _LONG else None
        return tag("ol", [tag("li", _tree(entry)) for entry in value[:_LONG]], extra)
    return shown(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
