"""`ssl-lib pack`: converts a folder of image files to memory-mappable arrays."""

from __future__ import annotations

import argparse
import shlex
import sys

from ssl_lib.cli.common import counted, print_left_out
from ssl_lib.config.resolve import call
from ssl_lib.data import pack_folder

__all__ = ["run_pack"]


def run_pack(options: argparse.Namespace) -> None:
    """Runs `ssl-lib pack`."""
    on_error = "skip" if options.skip_unreadable else "raise"
    arguments = {"channels": options.channels, "on_error": on_error, "workers": options.workers, "tile": options.tile}
    packed = call("pack", pack_folder, options.source, options.destination, options.size, **arguments)
    for split, part in packed.items():
        new = f", {part.written:,} of them now" if part.written < part.count else ""
        size = part.images.stat().st_size / 2**20
        print(f"{split}: {counted(part.count, 'image')}{new}, {size:,.1f} MiB in {part.images}", file=sys.stderr)
        print_left_out(part.skipped)
    setting = shlex.quote(f"data={{name: arrays, path: {options.destination}}}")
    print(f"to train on it: ssl-lib train CONFIG {setting}")
