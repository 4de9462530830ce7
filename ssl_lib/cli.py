"""The command line: `ssl-lib train | evaluate | doctor | report | list | views | bench | pack | replay`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import ssl_lib
from ssl_lib import distributed
from ssl_lib.commands import bench, doctor, evaluate, listing, pack, replay, report, train, views
from ssl_lib.data.workers import worker_crashes
from ssl_lib.errors import ConfigError, SSLError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for a user's error, 128 and its number for a signal."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    stray = [text for text in rest if text.startswith("-") or "=" not in text or not hasattr(options, "overrides")]
    if stray:
        key = stray[0].lstrip("-")
        hint = ""
        if hasattr(options, "overrides"):
            hint = (
                f": write {key}, without dashes" if "=" in key else "; settings are key=value, as in schedule.epochs=1"
            )
        parser.error(f"unknown argument {stray[0]!r}{hint}")
    if rest:  # overrides that stand behind an option
        options.overrides = [*options.overrides, *rest]
    try:
        if distributed.processes_started() > 1 and not getattr(options, "parallel", False):
            raise ConfigError("only train and evaluate run in several processes: start this command in one")
        with distributed.started(), worker_crashes():
            code: int | None = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        code = 0
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (SSLError, OSError) as error:
        who = f" in process {distributed.rank()}" if distributed.is_distributed() else ""
        print(f"ssl-lib: error{who}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nssl-lib: interrupted", file=sys.stderr)
        return 130
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("ssl-lib", description="Self-supervised learning on images", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ssl_lib {ssl_lib.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (train, evaluate, doctor, report, listing, views, bench, pack, replay):
        command.add(commands)
    return parser
