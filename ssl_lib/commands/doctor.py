"""`ssl-lib doctor`: what is wrong with a run, by its own figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ssl_lib.doctor import diagnose, format_diagnosis

__all__ = ["add"]


def add(commands: Any) -> None:
    """Enters the command."""
    parser = commands.add_parser("doctor", allow_abbrev=False, help="say what is wrong with a run, and what to do")
    parser.add_argument("target", metavar="RUN", help="a run's folder, finished or under way")
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> None:
    print(f"{options.target}: {format_diagnosis(diagnose(Path(options.target)))}")
