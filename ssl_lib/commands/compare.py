"""`ssl-lib compare`: runs side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ssl_lib.comparison import compare
from ssl_lib.files import write_text
from ssl_lib.text_table import terminal_width

__all__ = ["run_compare"]


def run_compare(options: argparse.Namespace) -> None:
    """Runs `ssl-lib compare`."""
    comparison = compare(options.folders)
    print(comparison.table(terminal_width()))
    if options.output:
        write_text(Path(options.output), comparison.csv())
        print(f"written to {options.output}", file=sys.stderr)
