"""`ssl-lib report`: what a run learned, on one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_lib.report import write_report

__all__ = ["run_report"]


def run_report(options: argparse.Namespace) -> None:
    """Runs `ssl-lib report`."""
    is_change = {word: "=" in word and not Path(word).exists() for word in options.runs}
    changes = [*(word for word in options.runs if is_change[word]), *options.overrides]
    runs = [word for word in options.runs if not is_change[word]]
    path = write_report(
        runs, options.output, overrides=changes, projection=options.projection, images=not options.no_images
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens in any browser")
