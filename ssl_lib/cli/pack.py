"""`ssl-lib pack`: converts a folder of image files to memory-mappable arrays."""

from __future__ import annotations

import argparse
import shlex
import sys

from ssl_lib.cli.common import counted, parse_changes, print_left_out
from ssl_lib.config.convert import arguments_of, check_arguments
from ssl_lib.config.resolve import call
from ssl_lib.data import image_folder, pack_folder
from ssl_lib.errors import ConfigError

__all__ = ["run_pack"]

_OWN = ("root", "test_root", "bank_root", "channels", "on_error", "hold_out", "split")
"""Arguments of `image_folder` that the command has options for, or does not need."""


def run_pack(options: argparse.Namespace) -> None:
    """Runs `ssl-lib pack`."""
    allowed = arguments_of(image_folder, _OWN)
    changes = parse_changes(options.overrides)
    for key in changes:
        if not key.startswith("data."):
            raise ConfigError(f"pack takes keys of `data` only, such as data.bands=all, got {key}")
    given = {key.removeprefix("data."): value for key, value in changes.items()}
    checked = check_arguments(given, allowed, "data")
    on_error = "skip" if options.skip_unreadable else "raise"
    arguments = {"channels": options.channels, "on_error": on_error, "workers": options.workers, "tile": options.tile}
    arguments |= {name: checked[name] for name in given}
    packed = call("pack", pack_folder, options.source, options.destination, options.size, **arguments)
    for split, part in packed.items():
        new = f", {part.written:,} of them now" if part.written < part.count else ""
        size = part.images.stat().st_size / 2**20
        print(f"{split}: {counted(part.count, 'image')}{new}, {size:,.1f} MiB in {part.images}", file=sys.stderr)
        print_left_out(part.skipped)
    setting = shlex.quote(f"data={{name: arrays, path: {options.destination}}}")
    print(f"to train on it: ssl-lib train CONFIG {setting}")
