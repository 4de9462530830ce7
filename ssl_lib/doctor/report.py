"""A diagnosis in words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ssl_lib.doctor.doctor import Doctor
from ssl_lib.doctor.figures import FIGURES, Figure
from ssl_lib.doctor.history import History, RunFacts
from ssl_lib.errors import DataError
from ssl_lib.runs.files import DIAGNOSIS_FILE, METRICS_FILE
from ssl_lib.runs.metrics import read_metrics
from ssl_lib.utils.files import write_json
from ssl_lib.utils.tables import text_table

__all__ = ["diagnose", "format_diagnosis", "write_diagnosis"]

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


def write_diagnosis(path: Path, doctor: Doctor) -> None:
    """Writes the facts of the run, and what was found."""
    content = {
        "facts": dataclasses.asdict(doctor.history.facts),
        "findings": [dataclasses.asdict(finding) for finding in doctor.findings],
    }
    write_json(path, content)


def diagnose(folder: str | Path) -> Doctor:
    """Sees a run again, from its `metrics.jsonl` and the facts in its `diagnosis.json`.

    Raises:
        DataError: One of them is missing or damaged.
    """
    folder = Path(folder)
    metrics, known = folder / METRICS_FILE, folder / DIAGNOSIS_FILE
    if missing := [path.name for path in (metrics, known) if not path.is_file()]:
        raise DataError(
            f"{folder} holds no {' and no '.join(missing)}: give the folder of a run that has logged a line, trained "
            "by ssl-lib train or with the callback Diagnosis"
        )
    try:
        doctor = Doctor(RunFacts(**json.loads(known.read_text(encoding="utf-8"))["facts"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{known} is damaged: {error}") from error
    for number, line in enumerate(read_metrics(metrics), start=1):
        try:
            doctor.see(line)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{metrics} is damaged in line {number}: {error!r}") from error
    return doctor
