"""The command line: `ssl-lib COMMAND`. Torch, which takes seconds, is imported once the arguments are found sane."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pkgutil
import sys
from collections.abc import Sequence

from ssl_lib.cli.arguments import make_parser
from ssl_lib.cli.console import ctrl_c_ends, print_error, print_interrupted, speaks
from ssl_lib.cli.slips import refuse_slips
from ssl_lib.errors import ConfigError, SSLError
from ssl_lib.utils.launcher import processes_started

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for a user's error, 128 and its number for a signal."""
    try:
        with contextlib.redirect_stderr(sys.stderr if speaks() else io.StringIO()):
            options = _parse(sys.argv[1:] if arguments is None else arguments)
        if processes_started() > 1 and not options.parallel:
            raise ConfigError("only train and evaluate run in several processes: start this command in one")
        with ctrl_c_ends():
            work = pkgutil.resolve_name(f"ssl_lib.cli.{options.work}")
        code: int | None = work(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        code = 128 + 13  # as of programs that SIGPIPE ends: a run may have been broken off
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # what is left in their buffers would change the exit code
            os.dup2(nowhere, stream.fileno())
    except (RuntimeError, ConnectionResetError, ConnectionRefusedError) as error:
        from ssl_lib.data.worker_errors import worker_crash  # and torch, which a command without it should not wait for

        if (crash := worker_crash(error)) is None:
            raise
        print_error(crash)
        return 2
    except (SSLError, OSError) as error:
        print_error(error)
        return 2
    except KeyboardInterrupt:
        print_interrupted()
        return 130
    return code or 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser, commands = make_parser()
    if not arguments:
        parser.print_help()
        parser.exit(2)
    refuse_slips(arguments, parser, commands)
    options, rest = parser.parse_known_args(arguments)
    if not rest:
        return options
    last = [place for place in commands[arguments[0]]._actions if not place.option_strings][-1]
    for word in rest:  # those that stand behind an option, where argparse looks for none
        many = last.nargs in ("*", "+") and (last.dest != "overrides" or "=" in word or options.words)
        if word.startswith("-") or not many:
            raise ConfigError(f"{arguments[0]} has no use for {word!r}: see ssl-lib {arguments[0]} --help")
    setattr(options, last.dest, [*(getattr(options, last.dest) or ()), *rest])
    return options
