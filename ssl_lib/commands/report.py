"""`ssl-lib report`: what a run learned, on one page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ssl_lib.report import PROJECTIONS, write_report

__all__ = ["add"]


def add(commands: Any) -> None:
    """Enters the command."""
    parser = commands.add_parser(
        "report", allow_abbrev=False, help="write one HTML page on what a run learned, or on several runs"
    )
    parser.add_argument("targets", nargs="+", metavar="RUN", help="runs' folders, or checkpoint files")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="default: report.html in the run's folder; of several runs one is needed"
    )
    parser.add_argument(
        "--map", choices=list(PROJECTIONS), help="projection of the map (default: the first that is installed)"
    )
    parser.add_argument("--no-images", action="store_true", help="show no picture, for private data")
    parser.set_defaults(run=_report, overrides=[])


def _report(options: argparse.Namespace) -> None:
    is_change = {word: "=" in word and not Path(word).exists() for word in options.targets}
    changes = [*(word for word in options.targets if is_change[word]), *options.overrides]
    runs = [word for word in options.targets if not is_change[word]]
    path = write_report(runs, options.output, overrides=changes, projection=options.map, images=not options.no_images)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens in any browser")
