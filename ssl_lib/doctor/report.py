"""Formats, writes and reloads the diagnosis of a run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from ssl_lib.doctor.doctor import Doctor
from ssl_lib.doctor.figures import FIGURES, Figure
from ssl_lib.doctor.history import History, RunFacts
from ssl_lib.errors import DataError
from ssl_lib.runs.files import DIAGNOSIS_FILE, METRICS_FILE, suggested_run
from ssl_lib.runs.folder import RunFolder
from ssl_lib.utils.files import write_json
from ssl_lib.utils.tables import text_table

__all__ = ["diagnose", "format_diagnosis", "format_outside", "write_diagnosis"]

_OUTSIDE = "!"


def format_diagnosis(doctor: Doctor) -> str:
    """Formats the findings, followed by a table of the metrics and their healthy ranges."""
    history = doctor.history
    where = f"after {history.step + 1} of {history.facts.total_steps} steps"
    if doctor.findings:
        count = len(doctor.findings)
        lines = [f"{count} finding{'s' * (count > 1)} {where}:"]
        for finding in doctor.findings:
            lines += [f"- {finding.name}, first at step {finding.step}: {finding.seen}"]
            lines += [f"    likely cause: {finding.cause}", f"    fix: {finding.cure}"]
    else:
        reason = "the run is too short" if history.finished else "it is too early"
        early = f", but {reason} to tell: most rules need one epoch and 30 steps" if history.too_short else ""
        lines = [f"no alarm {where}{early}"]
    rows = [["metric", "value", "healthy", ""]]
    rows += [_row(figure, history) for figure in FIGURES.values() if history.all(figure.name)]
    lines += ["", text_table(rows, left=len(rows[0]))]
    if doctor.outside:
        lines += ["", f"{_OUTSIDE} {format_outside(doctor)}; an alarm is raised only if the value stays out of range"]
    return "\n".join(lines)


def format_outside(doctor: Doctor) -> str:
    """Names the metrics that are out of their healthy range: `out of the healthy range: loss 7.2 (0 to 5.5)`."""
    history = doctor.history
    marked = [
        f"{figure.name} {figure.value(history):.4g} ({figure.limits(history.facts)})" for figure in doctor.outside
    ]
    return f"out of the healthy range: {', '.join(marked)}"


def _row(figure: Figure, history: History) -> list[str]:
    meaning = figure.meaning if figure.judged == "last" else f"{figure.meaning}; {figure.judged} value"
    mark = f" {_OUTSIDE}" if figure.is_outside(history) else ""
    return [figure.name, f"{figure.value(history):.4g}{mark}", figure.limits(history.facts), meaning]


def write_diagnosis(path: Path, doctor: Doctor) -> None:
    """Writes the facts about the run and the findings as JSON."""
    content = {
        "facts": dataclasses.asdict(doctor.history.facts),
        "findings": [dataclasses.asdict(finding) for finding in doctor.findings],
    }
    write_json(path, content)


def diagnose(folder: str | Path) -> Doctor:
    """Diagnoses a run folder from its `metrics.jsonl` and the facts in its `diagnosis.json`.

    Raises:
        DataError: One of the files is missing or damaged.
    """
    run = RunFolder(Path(folder))
    lines, diagnosis = run.metrics(), run.diagnosis()
    if missing := [name for name, found in ((METRICS_FILE, lines), (DIAGNOSIS_FILE, diagnosis)) if found is None]:
        raise DataError(
            f"{folder} has no {' and no '.join(missing)}: pass the folder of a run that has logged at least one line, "
            f"trained with ssl-lib train or with the callback Diagnosis{suggested_run(folder)}"
        )
    assert lines is not None and diagnosis is not None
    doctor = Doctor(_facts(diagnosis.get("facts"), run.path / DIAGNOSIS_FILE))
    for number, line in enumerate(lines, start=1):
        try:
            doctor.see(line)
        except (ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise DataError(
                f"{run.path / METRICS_FILE} is damaged in line {number} ({error!r}): delete that line"
            ) from error
    return doctor


def _facts(values: Any, path: Path) -> RunFacts:
    try:
        facts = RunFacts(**values)
        numbers = [value for value in dataclasses.astuple(facts) if value is not None]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
            raise TypeError("a value is not a number")
        if min(facts.total_steps, facts.steps_per_epoch) < 1:
            raise ValueError("total_steps and steps_per_epoch must be at least 1")
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it") from error
    return facts
