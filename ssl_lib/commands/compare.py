"""`ssl-lib compare`: runs side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ssl_lib.comparison import compare
from ssl_lib.files import write_text

__all__ = ["add"]


def add(commands: Any) -> None:
    """Enters the command."""
    parser = commands.add_parser(
        "compare", allow_abbrev=False, help="runs side by side: accuracies, cost, and the settings that differ"
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders of runs; those of one config are averaged")
    parser.add_argument("-o", "--output", metavar="FILE", help="also a CSV file, with a line per run")
    parser.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> None:
    comparison = compare(options.runs)
    print(comparison.table())
    if options.output:
        write_text(Path(options.output), comparison.csv())
        print(f"written to {options.output}", file=sys.stderr)
