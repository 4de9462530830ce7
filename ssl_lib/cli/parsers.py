"""Helpers for the command line's arguments; imports no torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from ssl_lib.cli.common import find_config
from ssl_lib.errors import ConfigError
from ssl_lib.runs.files import run_folder

__all__ = ["CONFIG", "IMAGES", "NULL", "SUGGEST", "add_changes", "add_command", "add_config", "add_run", "checked"]

CONFIG = "a YAML file, the name of a bundled config such as quickstart, a run's folder, or a folder of images"
IMAGES = "folder of the images; default: where they were embedded"
NULL = "end each path of the list with a zero byte, not a line break"
RUN = "a run's folder, or one checkpoint file"
SUGGEST: dict[str, Any] = {"suggest_on_error": True} if sys.version_info >= (3, 14) else {}


def add_command(
    commands: Any, name: str, summary: str, *, module: str = "", about: str = "", examples: str = "", **defaults: Any
) -> argparse.ArgumentParser:
    """Adds a command; its work is done in `module`, by default the module of its name."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        allow_abbrev=False,
        help=summary,
        description=about or f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples and f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **SUGGEST,
    )
    parser.set_defaults(work=f"{module or name}:run_{name}", **{"parallel": False, **defaults})
    return parser


def checked(find: Callable[[str], object]) -> Callable[[str], str]:
    """An argument's type: the text itself, if `find` finds it."""

    def check(text: str) -> str:
        try:
            find(text)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return text

    return check


def add_config(parser: argparse.ArgumentParser, example: str) -> None:
    """Adds the config and its changes."""
    parser.add_argument("config", metavar="CONFIG", type=checked(find_config), help=CONFIG)
    add_changes(parser, example)


def add_changes(parser: argparse.ArgumentParser, example: str) -> None:
    """Adds changes of a config."""
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=f"changes, such as {example}")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds a run."""
    parser.add_argument("run", metavar="RUN", type=checked(run_folder), help=RUN)
