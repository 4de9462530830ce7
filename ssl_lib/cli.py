"""The command line: `ssl-lib COMMAND`."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence

import ssl_lib
from ssl_lib import distributed
from ssl_lib.commands import (
    bench,
    compare,
    curate,
    doctor,
    embed,
    evaluate,
    export,
    listing,
    pack,
    replay,
    report,
    sweep,
    train,
    views,
)
from ssl_lib.console import print_error, speaks
from ssl_lib.data.workers import worker_crashes
from ssl_lib.errors import ConfigError, SSLError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for a user's error, 128 and its number for a signal."""
    with contextlib.redirect_stderr(sys.stderr if speaks() else io.StringIO()):
        options = _parse(arguments)
    try:
        if distributed.processes_started() > 1 and not getattr(options, "parallel", False):
            raise ConfigError("only train and evaluate run in several processes: start this command in one")
        with distributed.started(), worker_crashes():
            code: int | None = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        code = 128 + 13  # as of programs that SIGPIPE ends: a run may have been broken off
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # what is left in their buffers would change the exit code
            os.dup2(nowhere, stream.fileno())
    except (SSLError, OSError) as error:
        print_error(error)
        return 2
    except KeyboardInterrupt:
        if speaks():
            print("\nssl-lib: interrupted", file=sys.stderr)
        return 130
    return code or 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    stray = [text for text in rest if text.startswith("-") or not _is_taken(text, options)]
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
    return options


def _is_taken(text: str, options: argparse.Namespace) -> bool:
    """Whether a command takes a word that stands behind an option: `key=value`, or any, where it says so."""
    return hasattr(options, "overrides") and ("=" in text or getattr(options, "words", False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("ssl-lib", description="Self-supervised learning on images", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ssl_lib {ssl_lib.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    looking, using = (evaluate, doctor, report, compare), (embed, curate, export)
    for command in (train, *looking, sweep, *using, listing, views, bench, pack, replay):
        command.add(commands)
    return parser
