"""What a diagnosis leaves in a run's folder, and reads there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ssl_lib.doctor.examination import Doctor
from ssl_lib.doctor.facts import Facts
from ssl_lib.errors import DataError
from ssl_lib.files import write_json
from ssl_lib.metrics_file import read_metrics
from ssl_lib.run_files import DIAGNOSIS_FILE, METRICS_FILE

__all__ = ["diagnose", "write_diagnosis"]


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
        doctor = Doctor(Facts(**json.loads(known.read_text(encoding="utf-8"))["facts"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{known} is damaged: {error}") from error
    for number, line in enumerate(read_metrics(metrics), start=1):
        try:
            doctor.see(line)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{metrics} is damaged in line {number}: {error!r}") from error
    return doctor
