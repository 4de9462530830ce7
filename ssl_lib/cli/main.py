"""The command line's entry point, `ssl-lib COMMAND`; torch is imported after the arguments are parsed."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pkgutil
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from ssl_lib.cli.arguments import make_parser
from ssl_lib.cli.console import ctrl_c_ends, end_quietly_on_ctrl_c, print_error, print_interrupted, prints_for_all
from ssl_lib.errors import ConfigError, SSLError, did_you_mean
from ssl_lib.utils.launcher import processes_started
from ssl_lib.utils.streams import robust_streams

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for a user's error, 128 plus its number for a signal.

    Args:
        arguments: The words after `ssl-lib`; None takes those of this process, which then only has to end.
    """
    handler = signal.getsignal(signal.SIGINT)
    with robust_streams(), _plain_warnings():
        try:
            return _run(sys.argv[1:] if arguments is None else list(arguments))
        finally:
            if arguments is None:
                end_quietly_on_ctrl_c()
            elif signal.getsignal(signal.SIGINT) is not handler:
                signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Prints the warnings of this library without the line of code that issued them."""
    usual = warnings.formatwarning

    def plain(message: Warning | str, category: type[Warning], filename: str, *line: Any) -> str:
        own = f"{os.sep}ssl_lib{os.sep}" in filename
        return f"warning: {message}\n" if own else usual(message, category, filename, *line)

    warnings.formatwarning = plain  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _run(arguments: list[str]) -> int:
    try:
        with contextlib.redirect_stderr(sys.stderr if prints_for_all() else io.StringIO()):
            options = _parse(arguments)
        if processes_started() > 1 and not options.parallel:
            raise ConfigError("only train and evaluate run in several processes: start this command in one")
        with ctrl_c_ends():
            work = pkgutil.resolve_name(f"ssl_lib.cli.{options.work}")
        code: int | None = work(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout, such as head, has closed the pipe
        code = 128 + 13  # as for programs that SIGPIPE ends: a run may have been interrupted
        with contextlib.suppress(OSError, ValueError):  # flushing its buffer at exit would change the exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (RuntimeError, ConnectionResetError, ConnectionRefusedError) as error:
        from ssl_lib.data.worker_errors import worker_crash  # imports torch, as the command has

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


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser, commands = make_parser()
    if not arguments:
        parser.print_help()
        parser.exit(2)
    command, *rest = arguments
    if command in commands:  # intermixed: words may follow an option
        return commands[command].parse_intermixed_args(rest)
    if not command.startswith("-"):
        raise ConfigError(f"unknown command {command!r}.{did_you_mean(command, commands)}")
    return parser.parse_args(arguments)
