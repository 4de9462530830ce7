"""Data sets from the Hugging Face Hub or saved by its library `datasets`; needs the extra `hub`."""

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
    """The image column of a table, with `targets` and `classes` as in the data sets of torchvision."""

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
    """A Hugging Face data set: a folder written by `save_to_disk`, or a name on the Hub.

    Args:
        path: The folder; or a name on the Hub, such as "uoft-cs/cifar10", downloaded to the Hugging Face cache.
        configuration: Name of the configuration, if the data set on the Hub has several.
        train_split: Name of the training split.
        test_split: Name of the test split. There is no evaluation if the split does not exist.
        image: Column of the images.
        label: Column of the class indices. There are no labels if the column does not exist or contains only -1.
        mean: Mean of each channel in [0, 1]; None is ImageNet's.
        std: Standard deviation of each channel; None is ImageNet's.
        split: See `Split`; there is no "bank".

    Raises:
        ConfigError: `datasets` is not installed, or a split or column does not exist.
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
    """Whether any image has a label. On the Hub, the labels of hidden test sets are -1."""
    return len(table) == 0 or any(value is not None and value >= 0 for value in table[label])


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
