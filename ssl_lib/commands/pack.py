"""`ssl-lib pack`: a folder of image files to memory-mappable arrays."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any

from ssl_lib.commands.common import counted, print_names
from ssl_lib.data import pack_folder
from ssl_lib.resolve import call

__all__ = ["add"]


def add(commands: Any) -> None:
    """Enters the command."""
    parser = commands.add_parser(
        "pack",
        allow_abbrev=False,
        help="resize a folder of images once, into arrays that load without workers",
        description="Resizes each image's shorter side to SIZE, crops its centre to a square, writes arrays to DST.",
    )
    parser.add_argument("source", metavar="SRC", help="class folders, any tree of images, or train and val folders")
    parser.add_argument("destination", metavar="DST", help="a folder for the arrays; a pack broken off goes on there")
    parser.add_argument("--size", type=int, default=256, help="side of the squares in pixels (default: 256)")
    parser.add_argument("--channels", type=int, default=3, choices=(1, 3), help="3 for RGB, 1 for grey (default: 3)")
    parser.add_argument("--workers", type=int, help="processes that decode; by default as many as there are CPUs")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be read")
    parser.set_defaults(run=_pack)


def _pack(options: argparse.Namespace) -> None:
    on_error = "skip" if options.skip_unreadable else "raise"
    arguments = {"channels": options.channels, "on_error": on_error, "workers": options.workers}
    packed = call("pack", pack_folder, options.source, options.destination, options.size, **arguments)
    for split, part in packed.items():
        new = f", {part.written:,} of them now" if part.written < part.count else ""
        size = part.images.stat().st_size / 2**20
        print(f"{split}: {counted(part.count, 'image')}{new}, {size:,.1f} MiB in {part.images}", file=sys.stderr)
        print_names(f"{counted(len(part.skipped), 'unreadable image')} left out:", part.skipped)
    setting = shlex.quote(f"data={{name: arrays, path: {options.destination}}}")
    print(f"to train on it: ssl-lib train CONFIG {setting}")
