"""`ssl-lib doctor`: diagnoses a run from its logged metrics."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_lib.doctor import RunStatus, diagnose, format_diagnosis, format_steps, next_steps

__all__ = ["run_doctor"]


def run_doctor(options: argparse.Namespace) -> None:
    """Runs `ssl-lib doctor`."""
    doctor = diagnose(Path(options.folder))
    status = RunStatus.read(options.folder, doctor)
    print(f"{options.folder}: {format_diagnosis(doctor)}\n")
    print(f"{status.verdict}\nNext:\n{format_steps(next_steps(status))}")
