"""What the commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.runs.files import CONFIG_FILE

__all__ = ["bundled_configs", "config_folder", "counted", "find_config", "is_setting", "print_names", "print_skipped"]


def find_config(name: str, resume: bool = False) -> Path:
    """The file itself, or that of a run's folder; or, for a bare name or one under `configs/`, a bundled config.

    Args:
        name: What the user gave.
        resume: Whether a run is to go on, so that a path means one.

    Raises:
        ConfigError: There is none; the message names the nearest.
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
    if resume and "/" in name:
        runs = [str(path.parent) for path in Path(name).parent.glob(f"*/{CONFIG_FILE}")]
        raise ConfigError(f"no run {name!r} to go on with: there is no such folder.{did_you_mean(name, runs)}")
    hint = did_you_mean(short, [entry for entry, _ in bundled_configs()])
    raise ConfigError(f"no config or run {name!r}: there is no such file or folder, nor a bundled config.{hint}")


def config_folder() -> Path:
    """The bundled configs: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def bundled_configs() -> list[tuple[str, str]]:
    """Names of the bundled configs, with their first comments."""
    folder = config_folder()
    paths = sorted(folder.rglob("*.yaml"))
    return [(path.relative_to(folder).with_suffix("").as_posix(), _first_comment(path)) for path in paths]


def is_setting(word: str) -> bool:
    """Whether a word is `key=value`, and no file or folder of such a name."""
    return "=" in word and not os.path.exists(word)


def counted(number: float, noun: str) -> str:
    """`1 step`, `1,200 steps`."""
    text = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{text} {noun}{'' if number == 1 else 's'}"


def print_skipped(*parts: object) -> None:
    """Names the files that loaders and data sets left out, each once."""
    skipped = list(dict.fromkeys(path for part in parts for path in getattr(part, "skipped", ())))
    print_names(f"{counted(len(skipped), 'unreadable image')} left out:", skipped)


def print_names(heading: str, names: Sequence[str]) -> None:
    """A heading and a line per name, where there are any."""
    if names:
        print("\n  ".join([heading, *names]), file=sys.stderr)


def _first_comment(path: Path) -> str:
    line = path.read_text(encoding="utf-8").partition("\n")[0]
    return line.lstrip("# ") if line.startswith("#") else ""
