"""Data sets of the Hugging Face hub or saved by its library `datasets`; needs the extra `hub`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ssl_lib.data.base import ImageData, Split
from ssl_lib.data.datasets.wrapped import WrappedDataset
from ssl_lib.errors import ConfigError, DataError, did_you_mean
from ssl_lib.registry import DATASETS
from ssl_lib.utils.optional import needs

__all__ = ["huggingface"]


class _Images:
    """The image column of a table, with its labels as torchvision's sets name them."""

    def __init__(self, table: Any, image: str, label: str | None) -> None:
        self._images = table.select_columns([image])
        self._column = image
        if label is not None:
            self.targets = table.with_format("numpy")[label][:]
            self.classes = getattr(table.features[label], "names", None) or ()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        return self._images[index][self._column]


@DATASETS.register("huggingface")
def huggingface(
    path: str | Path,
    configuration: str | None = None,
    train_split: str = "train",
    test_split: str = "test",
    image: str = "image",
    label: str = "label",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    split: Split = "train",
) -> ImageData | None:
    """A data set of Hugging Face's `datasets`: a folder of `save_to_disk`, or a name on the hub.

    Args:
        path: The folder; or the hub's name, such as "uoft-cs/cifar10", which is downloaded into the library's cache.
        configuration: Of a data set on the hub that has several.
        train_split: Name of the split to train on.
        test_split: Name of the split to test on; one that is not there means no evaluation.
        image: Column of the images.
        label: Column of the class indices; one that is not there, or holds -1 alone, means no labels.
        mean: Mean per channel in [0, 1]; None is ImageNet's.
        std: Standard deviation per channel; None is ImageNet's.
        split: See `Split`; there is no "bank".

    Raises:
        ConfigError: `datasets` is not installed, or a split or column is not there.
        DataError: The data set cannot be opened.
    """
    tables = _open(str(path), configuration)
    if split == "bank" or (split == "test" and test_split not in tables):
        return None
    name = train_split if split == "train" else test_split
    if name not in tables:
        raise ConfigError(f"{path} has no split {name!r}.{did_you_mean(name, tables)}")
    table = tables[name]
    if image not in table.column_names:
        raise ConfigError(f"{path} has no column {image!r}.{did_you_mean(image, table.column_names)}")
    labels = label if label in table.column_names and _labeled(table, label) else None
    if split == "test" and labels is None:
        return None
    return WrappedDataset(_Images(table, image, labels), mean, std)


def _labeled(table: Any, label: str) -> bool:
    """Whether any image has a label: on the hub, those of a hidden test set are -1."""
    return len(table) == 0 or any(value is not None and value >= 0 for value in table[label])


def _open(path: str, configuration: str | None) -> Any:
    """The splits by name."""
    with needs("datasets", "data huggingface"):
        datasets: Any = importlib.import_module("datasets")
    try:
        if Path(path).expanduser().is_dir():
            tables = datasets.load_from_disk(str(Path(path).expanduser()))
        else:
            tables = datasets.load_dataset(path, configuration)
    except Exception as error:  # of many types: no such set, no network, damaged files
        raise DataError(f"{path}: cannot be opened by Hugging Face's datasets: {error}") from error
    return {"train": tables} if hasattr(tables, "column_names") and isinstance(tables.column_names, list) else tables
