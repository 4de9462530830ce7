"""`ssl-lib compare`: compares runs in a table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ssl_lib.runs.compare import compare
from ssl_lib.utils.files import check_writable, write_text
from ssl_lib.utils.tables import terminal_width

__all__ = ["run_compare"]


def run_compare(options: argparse.Namespace) -> None:
    """Runs `ssl-lib compare`."""
    if options.output:
        check_writable(Path(options.output), "runs.csv")
    comparison = compare(options.folders)
    print(comparison.table(terminal_width()))
    if options.output:
        write_text(Path(options.output), comparison.csv())
        print(f"written to {options.output}", file=sys.stderr)
