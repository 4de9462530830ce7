"""A diagnosis in words."""

from __future__ import annotations

from ssl_lib.doctor.examination import Doctor
from ssl_lib.doctor.figures import FIGURES, Figure
from ssl_lib.doctor.history import History
from ssl_lib.text_table import text_table

__all__ = ["format_diagnosis"]

_OUTSIDE = "!"


def format_diagnosis(doctor: Doctor) -> str:
    """The findings, or that there is none, and below them its figures beside their healthy ranges."""
    history = doctor.history
    where = f"after {history.step + 1} of {history.facts.total_steps} steps"
    if doctor.findings:
        lines = [f"{len(doctor.findings)} found {where}:"]
        for finding in doctor.findings:
            lines += [f"- {finding.name}, seen first at step {finding.step}: {finding.seen}"]
            lines += [f"    likely  {finding.cause}", f"    cure    {finding.cure}"]
    else:
        why = "too short a run" if history.finished else "too early"
        early = f"; that is {why} to tell: most rules wait for an epoch and 30 steps" if history.too_short else ""
        lines = [f"no alarm {where}{early}"]
    rows = [["figure", "value", "healthy", ""]]
    rows += [_row(figure, history) for figure in FIGURES.values() if history.all(figure.name)]
    marked = any(row[1].endswith(_OUTSIDE) for row in rows)
    note = ["", f"{_OUTSIDE} is outside of its healthy range; an alarm is for what stays there"] if marked else []
    return "\n".join([*lines, "", text_table(rows, left=len(rows[0])), *note])


def _row(figure: Figure, history: History) -> list[str]:
    healthy = figure.healthy(history.facts)
    between = "" if healthy is None else f"{healthy[0]:.3g} to {healthy[1]:.3g}"
    values = history.all(figure.name)
    judged = {"last": values[-1], "highest": max(values), "lowest": min(values)}[figure.judged]
    meaning = figure.meaning if figure.judged == "last" else f"{figure.meaning}; the {figure.judged}"
    good = healthy is None or 0.99 * healthy[0] <= judged <= 1.01 * healthy[1]  # what is shown is rounded
    return [figure.name, f"{judged:.4g}{'' if good else f' {_OUTSIDE}'}", between, meaning]
