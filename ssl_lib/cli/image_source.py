"""Opens images for a command: a folder of files, a folder that `ssl-lib pack` wrote, or a run's training images."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_lib.cli.common import find_config
from ssl_lib.config.load import load_config
from ssl_lib.config.resolve import call, resolve
from ssl_lib.data import FolderData, ImageData, arrays
from ssl_lib.data.base import ImageDataset, image_name, warn
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.datasets.scan import report_unused
from ssl_lib.data.io.decode import Decoder, OnError
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.data.resumable import describe_source
from ssl_lib.embedding import EmbeddingTable
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.experiment.build import build_views
from ssl_lib.runs.files import CONFIG_FILE

__all__ = ["TableImages", "image_reader", "images_root", "open_images", "table_images"]


def open_images(folder: str, like: Preprocessing, on_error: OnError = "raise", **options: Any) -> ImageData:
    """Opens the images of a folder, which are read as the run's training images.

    `options` are further arguments of `FolderData`, such as `pages` and `exclude`.

    Raises:
        DataError: The folder is missing or has no images, or holds several packed splits or other channels.
    """
    if not _is_packed(folder):
        report_unused([folder], options.get("exclude", ()))
        options = {**like.reading, **options}
        return call("IMAGES", FolderData, folder, like.channels, like.mean, like.std, on_error, **options)
    if options:
        raise ConfigError(f"data.{next(iter(options))} has no effect on the packed images in {folder}: leave it out")
    parts = [part for part in ("train", "test") if (Path(folder).expanduser() / part / "images.npy").exists()]
    if len(parts) > 1:
        raise DataError(f"{folder} holds {' and '.join(parts)}: give {os.path.join(folder, 'train')} or the other")
    found = arrays(folder)
    assert isinstance(found, ArrayData)
    if found.channels != like.channels:
        raise DataError(
            f"{folder}: the images have {found.channels} channels, the run has {like.channels}: pack them with "
            f"--channels {like.channels}"
        )
    if found.decoder is not None and Preprocessing.of(found, like.size).reading != like.reading:
        warn(
            f"{folder} was packed with another data.range, data.depth or data.bands than the run's images "
            f"({_reading_text(like)}): pack the files again with these"
        )
    return found


class TableImages(ImageDataset):
    """The images of a table's rows, read as they were when they were embedded.

    Args:
        names: The paths in the table.
        read_name: Reads the image of a path.
        preprocessing: The preprocessing with which they were embedded.
    """

    def __init__(self, names: Sequence[str], read_name: Callable[[str], Tensor], preprocessing: Preprocessing) -> None:
        self.preprocessing, self._names, self._read_name = preprocessing, names, read_name
        self.mean, self.std, self.channels = preprocessing.mean, preprocessing.std, preprocessing.channels
        self.labels, self.class_names = None, ()

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: int) -> Tensor:
        """Returns the image of a row."""
        return self._read_name(self._names[index])

    def name(self, index: int) -> str:
        """Returns the path of a row."""
        return self._names[index]


def table_images(table: EmbeddingTable, images: str | None) -> TableImages:
    """Opens the images of a table.

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
    names, like, data = table.paths.tolist(), _preprocessing(table), _opened(place, is_run=_is_run(images))
    if data is not None:
        _check_same(table, data, place)
    if data is None or isinstance(data, FolderData):
        folder = Path(place if data is None else data.root).expanduser()
        paged = table.made_of.get("pages") == "all"
        return TableImages(names, functools.partial(_decode, folder, like.decoder(), paged), like)
    positions = {image_name(data, index): index for index in range(len(data))}
    return TableImages(names, lambda name: data.read(positions[name]), like)


def images_root(table: EmbeddingTable, images: str | None) -> str | None:
    """Returns the folder of the files of a table's rows; None if it is not known, or they are no files.

    The arguments and errors are those of `table_images`.
    """
    if not _is_run(images):
        return images or table.root
    assert images is not None
    data = _opened(images, is_run=True)
    assert data is not None
    _check_same(table, data, images)
    return data.root if isinstance(data, FolderData) else None


def _is_run(images: str | None) -> bool:
    """Whether `--images` names a run or its checkpoint, not a folder of images."""
    place = Path(images or "").expanduser()
    return images is not None and (place.is_file() or (place / CONFIG_FILE).is_file())


def _opened(place: str, is_run: bool) -> ImageData | None:
    """Opens the training images of a run, or packed images; None for a folder of files."""
    if is_run:
        return build_views(resolve(load_config(find_config(place))))[0]
    return arrays(Path(place).expanduser()) if _is_packed(place) else None


def _check_same(table: EmbeddingTable, data: ImageData, place: str) -> None:
    fix = "give the folder, or the run, whose images were embedded, with --images"
    found = describe_source(data)
    if any(table.made_of.get(key) != found[key] for key in ("images", "labels")):
        raise DataError(f"{place}: its images are not the {len(table):,} images of the table: {fix}")
    known = {image_name(data, index) for index in range(len(data))}
    if unknown := next((name for name in table.paths.tolist() if name not in known), None):
        raise DataError(f"{place}: its images are not those of the table, such as {unknown}: {fix}")


def image_reader(table: EmbeddingTable, images: str | None) -> Callable[[int], Tensor]:
    """Returns a function that reads the image of a table's row for display, uint8 (1 or 3, H, W).

    The arguments and errors are those of `table_images`.
    """
    source = table_images(table, images)
    return lambda row: source.preprocessing.picture(source.read(row))


def _preprocessing(table: EmbeddingTable) -> Preprocessing:
    """How the images of a table were read; the default if the table does not say it."""
    names = {field.name for field in dataclasses.fields(Preprocessing)} & table.made_of.keys()
    plain: dict[str, Any] = {"size": 1, "resize": 1, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return Preprocessing(**(plain | {name: table.made_of[name] for name in names}))


def _reading_text(like: Preprocessing) -> str:
    values = {name: value for name, value in like.plain().items() if name in like.reading}
    return ", ".join(f"data.{name}={'null' if value is None else value}" for name, value in values.items())


def _decode(folder: Path, decoder: Decoder, paged: bool, name: str) -> Tensor:
    page = ""
    if paged and not (folder / name).exists():
        name, _, page = name.rpartition("#")
    path = folder / name
    try:
        return decoder.decode(path, int(page or 0))
    except Exception as error:  # Pillow raises many types on damaged files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path} cannot be read ({reason}); give another folder with --images") from error


def _is_packed(folder: str) -> bool:
    root = Path(folder).expanduser()
    names = ("images.npy", "images.npy.partial")
    return any((root / part / name).exists() for part in ("", "train", "test") for name in names)
