"""Functions that several commands share; imports no torch."""

from __future__ import annotations

import mimetypes
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.runs.files import CONFIG_FILE
from ssl_lib.utils.printable import visible
from ssl_lib.utils.yaml import parse_yaml

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "FOLDER_CONFIG",
    "bundled_configs",
    "config_folder",
    "counted",
    "find_config",
    "is_setting",
    "parse_changes",
    "print_left_out",
    "print_skipped",
    "save_picture",
]


FOLDER_CONFIG = "folder.yaml"
"""The bundled config for a folder of images."""


def find_config(name: str) -> Path:
    """Finds a config: a YAML file, the config in a run's folder, a bundled config by its name, or that for a folder.

    Args:
        name: A path, or a bundled config's name with or without `configs/` and `.yaml`; or a folder of images.

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
    if _has_images(Path(name)):
        return config_folder() / FOLDER_CONFIG
    if Path(name).is_dir():
        raise ConfigError(
            f"{name} is a folder without a config.yaml and without images: give a config, a run's folder, or a folder "
            "of images"
        )
    runs = [str(path.parent) for path in Path(name).parent.glob(f"*/{CONFIG_FILE}")] if "/" in name else []
    hint = did_you_mean(short, [*runs, *(entry for entry, _ in bundled_configs())])
    raise ConfigError(f"no config or run {name!r}: there is no such file or folder, nor a bundled config.{hint}")


def _has_images(folder: Path) -> bool:
    """Whether there is a picture or an array below a folder, judged by the names of files that are not hidden."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(_is_picture(name.lower()) for name in names if not name.startswith(".")):
            return True
    return False


def _is_picture(name: str) -> bool:
    kind, packed = mimetypes.guess_type(name)
    known = (kind or "").startswith("image/") and not packed and not name.endswith(".svg")
    return known or name.endswith((".npy", ".npz", ".mpo", ".apng", ".jfif", ".jp2", ".j2k", ".jpx", ".avif", ".heic"))


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
    print_left_out(dict.fromkeys(path for part in parts for path in getattr(part, "skipped", ())))


def print_left_out(paths: Iterable[str]) -> None:
    """Prints the unreadable images that were left out, a line each, if there are any."""
    if lines := list(paths):
        names = map(visible, lines)
        print("\n  ".join([f"{counted(len(lines), 'unreadable image')} left out:", *names]), file=sys.stderr)


def save_picture(picture: Image.Image, target: str) -> None:
    """Saves a picture, in a new folder if it does not exist.

    Raises:
        ConfigError: The suffix is not a picture's, or the file cannot be written.
    """
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        picture.save(target)
    except (OSError, ValueError) as error:  # a full disk, or a format that cannot hold the picture
        raise ConfigError(
            f"--output: {target} cannot be written ({error}); it must end in a picture's suffix, such as .png"
        ) from error


def _first_comment(path: Path) -> str:
    line = path.read_text(encoding="utf-8").partition("\n")[0]
    return line.lstrip("# ") if line.startswith("#") else ""
