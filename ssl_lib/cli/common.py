"""Functions that several commands share; imports no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.runs.files import CONFIG_FILE
from ssl_lib.utils.yaml import parse_yaml

__all__ = [
    "bundled_configs",
    "config_folder",
    "counted",
    "find_config",
    "is_setting",
    "parse_changes",
    "print_names",
    "print_skipped",
]


def find_config(name: str) -> Path:
    """Finds a config: a YAML file, the config in a run's folder, or a bundled config by its name.

    Args:
        name: A path, or a bundled config's name with or without `configs/` and `.yaml`.

    Raises:
        ConfigError: There is none; the message suggests the closest name.
    """
    for path in (Path(name), Path(name) / CONFIG_FILE):
        if path.is_file():
            return path
    short = name.removesuffix(".yaml").removeprefix("configs/")
    bundled = config_folder() / f"{short}.yaml"
    if not name.startswith((".", "/", "~")) and bundled.is_file():
        return bundled
    if Path(name).is_dir():
        raise ConfigError(f"{name} is a folder without a config.yaml: give a config, or a run's folder")
    runs = [str(path.parent) for path in Path(name).parent.glob(f"*/{CONFIG_FILE}")] if "/" in name else []
    hint = did_you_mean(short, [*runs, *(entry for entry, _ in bundled_configs())])
    raise ConfigError(f"no config or run {name!r}: there is no such file or folder, nor a bundled config.{hint}")


def config_folder() -> Path:
    """The folder of the bundled configs: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def bundled_configs() -> list[tuple[str, str]]:
    """Names of the bundled configs, with their first comment."""
    folder = config_folder()
    paths = sorted(folder.rglob("*.yaml"))
    return [(path.relative_to(folder).with_suffix("").as_posix(), _first_comment(path)) for path in paths]


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Parses `key=value` texts, the values in YAML, into values by full key.

    Raises:
        ConfigError: A text is not of this form; the message names it.
    """
    changes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"cannot read {text!r}: write key=value, such as trainer.batch_size=128")
        changes[key] = parse_yaml(value, f"the value of {text:.200}")
    return changes


def is_setting(word: str) -> bool:
    """Whether a word is `key=value`, and not an existing file or folder."""
    return "=" in word and not os.path.exists(word)


def counted(number: float, noun: str) -> str:
    """`1 step`, `1,200 steps`."""
    text = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{text} {noun}{'' if number == 1 else 's'}"


def print_skipped(*parts: object) -> None:
    """Prints the files that loaders and data sets skipped, each once."""
    skipped = list(dict.fromkeys(path for part in parts for path in getattr(part, "skipped", ())))
    print_names(f"{counted(len(skipped), 'unreadable image')} left out:", skipped)


def print_names(heading: str, names: Sequence[str]) -> None:
    """Prints a heading and a line per name, if there are names."""
    if names:
        print("\n  ".join([heading, *names]), file=sys.stderr)


def _first_comment(path: Path) -> str:
    line = path.read_text(encoding="utf-8").partition("\n")[0]
    return line.lstrip("# ") if line.startswith("#") else ""
