"""Data sets from the Hugging Face Hub or saved by its library `datasets`; needs the extra `hub`."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ssl_lib.data.base import ImageData, Split, warn
from ssl_lib.data.datasets.torch_items import FileItems
from ssl_lib.data.datasets.wrapped import WrappedDataset
from ssl_lib.data.io.decode import MAX_PIXELS, Depth, OnError, Reading
from ssl_lib.data.io.raw import Bands, Range
from ssl_lib.data.io.stored import is_readable
from ssl_lib.data.labels import class_labels
from ssl_lib.errors import ConfigError, DataError, did_you_mean
from ssl_lib.registry import DATASETS
from ssl_lib.utils.optional import needs

__all__ = ["huggingface"]

_LABEL = "label"
_TEST_SPLITS = ("test", "validation", "valid", "val", "dev")


class _Images(FileItems):
    """The image column of a table, with `targets` and `classes` as in the data sets of torchvision.

    Images are the contents of their files, which keep the depth, bands and orientation; or what the column has, if it
    converts images to a mode, or its files are in a format that only the library datasets reads.
    """

    def __init__(self, table: Any, image: str, targets: list[Any] | None, classes: tuple[str, ...]) -> None:
        self._column = image
        self._images = table.select_columns([image])
        self._files = None
        self.targets, self.classes = targets, classes
        kind: Any = importlib.import_module("datasets").Image
        feature = table.features[image]
        if isinstance(feature, kind) and getattr(feature, "mode", None) is None:
            self._files = self._images.cast_column(image, kind(decode=False))
            first = self.file(0)
            if first is not None and not is_readable(first, sys.maxsize):
                self._files = None

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        file = self.file(index)
        item = self._images[index][self._column] if file is None else file
        if item is None:
            raise DataError(f"is missing: row {index} of the column {self._column!r} has no image")
        return item

    def file(self, index: int) -> bytes | None:
        """Returns the content of an image's file, if the column has it or its path."""
        entry = (self._files and self._files[index][self._column]) or {}
        if entry.get("bytes"):
            return bytes(entry["bytes"])
        path = entry.get("path")
        return Path(path).read_bytes() if path and Path(path).is_file() else None


@DATASETS.register("huggingface")
def huggingface(
    path: str | Path,
    configuration: str | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    image: str = "image",
    label: str = _LABEL,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    on_error: OnError = "raise",
    *,
    range: Range = "auto",
    depth: Depth = 8,
    bands: Bands = None,
    max_pixels: int = MAX_PIXELS,
    split: Split = "train",
) -> ImageData | None:
    """A Hugging Face data set: a folder written by `save_to_disk`, or a name on the Hub.

    Args:
        path: The folder; or a name on the Hub, such as "uoft-cs/cifar10", downloaded to the Hugging Face cache.
        configuration: Name of the configuration, if the data set on the Hub has several.
        train_split: Name of the training split.
        test_split: Name of the test split; None is the first of test, validation, valid, val and dev with labels.
            There is no evaluation if there is none.
        image: Column of the images.
        label: Column of the classes: indices or texts. There are no labels if there is no column "label". Images whose
            class is None or -1 have none: if they are only a part, the others are the "bank".
        mean: Mean of each channel in [0, 1]; None is ImageNet's, or computed from a sample for chosen bands.
        std: Standard deviation of each channel; None as for `mean`.
        on_error: What to do with an unreadable image: "raise" a DataError, or "skip" it (listed at the end).
        range: Which values become black and white: "auto" is the range of the file's type, such as 0 to 65535 for 16
            bits; "percentile" is the 1st and 99th percentile of each channel of an image; or two values [low, high].
        depth: 8 for uint8 pixels; 16 for float32 in [0, 1], which keeps 16-bit values.
        bands: Indices of the bands to use, or "all"; None uses gray and RGB files.
        max_pixels: Larger images are refused.
        split: See `Split`.

    Raises:
        ConfigError: `datasets` is not installed, or a split or column does not exist.
        DataError: The data set cannot be opened.
    """
    tables = _open(str(path), configuration)
    reading = Reading(range=range, depth=depth, bands=bands, max_pixels=max_pixels)

    table_of = partial(_table, tables, str(path), image)

    def images(table: Any, part: _Part) -> WrappedDataset:
        return WrappedDataset(_Images(table, image, part.targets, part.classes), mean, std, None, on_error, **reading)

    train = table_of(train_split)
    part = _labels(train, label, f"{path}: {train_split}")
    if split == "train":
        return images(train, part if part.rows is None else _Part())
    if split == "bank":
        return None if part.rows is None else images(train.select(part.rows), part)
    for name in _TEST_SPLITS if test_split is None else (test_split,):
        if test_split is not None or (name in tables and name != train_split):
            found = _labels(table_of(name), label, f"{path}: {name}")
            if found.targets is not None:
                rows = table_of(name) if found.rows is None else tables[name].select(found.rows)
                return images(rows, found)
    return None


def _table(tables: Any, path: str, image: str, name: str) -> Any:
    """Returns a split, which must have the column of images."""
    if name not in tables:
        raise ConfigError(f"{path} has no split {name!r}.{did_you_mean(name, tables)}")
    if image not in tables[name].column_names:
        raise ConfigError(f"{path} has no column {image!r}.{did_you_mean(image, tables[name].column_names)}")
    return tables[name]


class _Part(NamedTuple):
    """The classes of the labeled images of a table, their names, and their rows if other images have no class."""

    targets: list[Any] | None = None
    classes: tuple[str, ...] = ()
    rows: list[int] | None = None


def _labels(table: Any, label: str, where: str) -> _Part:
    if label not in table.column_names:
        if label != _LABEL:
            known = did_you_mean(label, table.column_names)
            warn(f"{where} has no column {label!r}, so its images have no labels.{known}")
        return _Part()
    values = table[label][:] if hasattr(table[label], "__getitem__") else list(table[label])
    rows = [row for row, value in enumerate(values) if value is not None and value != -1]
    classes = tuple(getattr(table.features[label], "names", None) or ())
    targets = [values[row] for row in rows]
    if not rows:
        return _Part()
    try:
        class_labels(targets, classes)
    except ValueError as error:
        raise DataError(
            f"{where}, column {label!r}: {error}; set data.label to a column with one class per image"
        ) from error
    if len(rows) == len(values):
        return _Part(targets, classes)
    warn(
        f"{where}: {len(values) - len(rows):,} of {len(values):,} images have no class; the others are used for "
        "evaluation"
    )
    return _Part(targets, classes, rows)


def _open(path: str, configuration: str | None) -> Any:
    """Returns the splits by name."""
    with needs("datasets", "data huggingface"):
        datasets: Any = importlib.import_module("datasets")
    try:
        if Path(path).expanduser().is_dir():
            tables = datasets.load_from_disk(str(Path(path).expanduser()))
        else:
            tables = datasets.load_dataset(path, configuration)
    except Exception as error:  # many types: unknown data set, no network, damaged files
        raise DataError(f"{path}: cannot be opened by the library datasets of Hugging Face: {error}") from error
    return {"train": tables} if hasattr(tables, "column_names") and isinstance(tables.column_names, list) else tables
