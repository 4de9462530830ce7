"""`ssl-lib report`: writes one HTML page on what runs learned."""

from __future__ import annotations

import argparse

from ssl_lib.cli.common import is_setting, parse_changes
from ssl_lib.report import write_report

__all__ = ["run_report"]


def run_report(options: argparse.Namespace) -> None:
    """Runs `ssl-lib report`."""
    changes = parse_changes([word for word in options.runs if is_setting(word)])
    runs = [word for word in options.runs if not is_setting(word)]
    path = write_report(
        runs, options.output, changes=changes, projection=options.projection, images=not options.no_images
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens in any browser")
