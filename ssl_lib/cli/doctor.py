"""`ssl-lib doctor`: diagnoses a run from its logged metrics."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_lib.doctor import diagnose, format_diagnosis

__all__ = ["run_doctor"]


def run_doctor(options: argparse.Namespace) -> None:
    """Runs `ssl-lib doctor`."""
    print(f"{options.folder}: {format_diagnosis(diagnose(Path(options.folder)))}")
