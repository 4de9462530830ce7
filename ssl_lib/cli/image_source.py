"""Opens images for a command: a folder of files, a folder that `ssl-lib pack` wrote, or a run's training images."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ssl_lib.cli.common import find_config
from ssl_lib.config.load import load_config
from ssl_lib.config.resolve import call, resolve
from ssl_lib.data import FolderData, ImageData, arrays, decode_image
from ssl_lib.data.io.decode import OnError, Reading
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.data.resumable import describe_source
from ssl_lib.embedding import EmbeddingTable
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.experiment.build import build_views
from ssl_lib.runs.files import CONFIG_FILE

__all__ = ["image_reader", "open_images"]


def open_images(folder: str, like: Preprocessing, on_error: OnError = "raise") -> ImageData:
    """Opens the images of a folder, which are read as the run's training images.

    Raises:
        DataError: The folder is missing or has no images, or holds several packed splits or other channels.
    """
    if not _is_packed(folder):
        reading = Reading(range=like.range, depth=like.depth, bands=like.bands)
        return call("IMAGES", FolderData, folder, like.channels, like.mean, like.std, on_error, **reading)
    parts = [part for part in ("train", "test") if (Path(folder).expanduser() / part / "images.npy").exists()]
    if len(parts) > 1:
        raise DataError(f"{folder} holds {' and '.join(parts)}: give {os.path.join(folder, 'train')} or the other")
    found = arrays(folder)
    assert found is not None
    if found.channels != like.channels:
        raise DataError(
            f"{folder}: the images have {found.channels} channels, the run has {like.channels}: pack them with "
            f"--channels {like.channels}"
        )
    return found


def image_reader(table: EmbeddingTable, images: str | None) -> Callable[[int], Tensor]:
    """Returns a function that reads the image of a table's row, uint8 (C, H, W).

    `images` is the folder, or the run whose training images were embedded; None uses the folder that the table names.

    Raises:
        ConfigError: The table names no folder.
        DataError: The images are not the table's.
    """
    place = images or table.root
    if place is None:
        raise ConfigError(
            "the table names no folder of images: give the folder, or the run whose images they are, with --images"
        )
    folder = Path(place).expanduser()
    if not images or not (folder.is_file() or (folder / CONFIG_FILE).is_file()):
        if not _is_packed(place):
            return lambda row: _decode(folder / str(table.paths[row]))
        data = arrays(folder)
    else:
        data, _ = build_views(resolve(load_config(find_config(images))))
    assert data is not None
    found = describe_source(data)
    if any(table.made_of.get(key) != found[key] for key in ("images", "labels")):
        raise DataError(f"{place}: its images are not the {len(table):,} images of the table")
    return lambda row: data.read(int(table.paths[row]))


def _decode(path: Path) -> Tensor:
    try:
        return decode_image(path)
    except Exception as error:  # Pillow raises many types on damaged files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path} cannot be read ({reason}); give another folder with --images") from error


def _is_packed(folder: str) -> bool:
    root = Path(folder).expanduser()
    names = ("images.npy", "images.npy.partial")
    return any((root / part / name).exists() for part in ("", "train", "test") for name in names)
