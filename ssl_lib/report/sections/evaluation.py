"""What evaluation.json holds, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lib.evaluation import Metric
from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.numbers import measured
from ssl_lib.report.run import Evaluation, Run
from ssl_lib.report.sections.columns import Column, columns_of
from ssl_lib.report.sections.common import missing, section, table
from ssl_lib.report.sections.details import details

__all__ = ["evaluation"]


def evaluation(runs: Sequence[Run]) -> Html:
    """One table, a row per figure, and below it what else the protocols kept."""
    known = [(run.name, run.evaluation) for run in runs if isinstance(run.evaluation, Evaluation)]
    about = "Labeled test images the network was not trained on; the trained weights beside two baselines."
    columns = columns_of(runs)
    measures = list({m.key: m for _, found in known for m in found.results.measures}.values())
    body = [_table(_caption(known), columns, measures), details(columns, measures)] if known else None
    return section("evaluation", "Evaluation", about, missing(runs, "evaluation"), body)


def _table(caption: str, columns: Sequence[Column], measures: Sequence[Metric]) -> Html:
    rows: list[list[Child]] = []
    for measure in measures:
        if any(measure.key in column.scores for column in columns):
            cells = [(column.row == "trained", measured(measure, column.scores)) for column in columns]
            name = tag("span", measure.title, class_=None if measure.main else "minor")
            rows.append([name, *(tag("b", text) if trained else text for trained, text in cells)])
    return table(caption, ["figure", *(column.heading for column in columns)], rows, "scores")


def _caption(known: Sequence[tuple[str, Evaluation]]) -> str:
    told = []
    for name, found in known:
        images = f"{found.queries:,} test images" if isinstance(found.queries, int) else "test images"
        steps = f" after {found.steps:,} steps" if isinstance(found.steps, int) else ""
        told.append(f"{f'{name}: ' if len(known) > 1 else ''}{images}{steps}")
    return "; ".join(told) + ". ± is one standard deviation over draws."
