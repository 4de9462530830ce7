"""CIFAR-10, CIFAR-100 and STL-10, read into memory by torchvision."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torchvision.datasets import CIFAR10, CIFAR100, STL10

from ssl_lib.data.base import ImageData, Split
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS
from ssl_lib.utils.files import locked

__all__ = ["cifar10", "cifar100", "stl10"]

# Mean and std over all pixels of the training images; for STL-10, over the 105,000 images of the "train" split.
CIFAR10_STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100_STATISTICS = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
STL10_STATISTICS = ((0.4409, 0.4279, 0.3868), (0.2683, 0.2611, 0.2687))
STL10_SPLITS: dict[Split, str] = {"train": "train+unlabeled", "bank": "train", "test": "test"}


@DATASETS.register("cifar10")
def cifar10(root: str | Path, download: bool = False, split: Split = "train") -> ImageData | None:
    """CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test images, RGB, 32 x 32, 10 classes.

    Args:
        root: torchvision's root folder, which contains `cifar-10-batches-py`.
        download: Whether torchvision may download the files into `root`.
        split: See `Split`; there is no "bank", because all training images have labels.

    Raises:
        DataError: Files are missing or damaged, or the download failed.
    """
    return _cifar(CIFAR10, *CIFAR10_STATISTICS, root, download, split)


@DATASETS.register("cifar100")
def cifar100(root: str | Path, download: bool = False, split: Split = "train") -> ImageData | None:
    """CIFAR-100 (Krizhevsky, 2009): 50,000 training and 10,000 test images, RGB, 32 x 32, 100 (fine) classes.

    Args:
        root: torchvision's root folder, which contains `cifar-100-python`.
        download: Whether torchvision may download the files into `root`.
        split: See `Split`; there is no "bank", because all training images have labels.

    Raises:
        DataError: Files are missing or damaged, or the download failed.
    """
    return _cifar(CIFAR100, *CIFAR100_STATISTICS, root, download, split)


@DATASETS.register("stl10")
def stl10(root: str | Path, download: bool = False, split: Split = "train") -> ImageData | None:
    """STL-10 (Coates et al., 2011): 105,000 training and 8,000 test images, RGB, 96 x 96, 10 classes.

    "train" combines the 5,000 labeled and the 100,000 unlabeled images, without labels (2.9 GB of memory). "bank" has
    the 5,000 labeled images, "test" the 8,000 test images.

    Args:
        root: torchvision's root folder, which contains `stl10_binary`.
        download: Whether torchvision may download the files into `root`.
        split: See `Split`.

    Raises:
        DataError: Files are missing or damaged, or the download failed.
    """
    return _stl10(STL10, root, download, split)


def _cifar(
    kind: type[CIFAR10], mean: tuple[float, ...], std: tuple[float, ...], root: str | Path, download: bool, split: Split
) -> ArrayData | None:
    if split == "bank":
        return None
    dataset = _open(kind, root, download, train=split == "train")
    return ArrayData(dataset.data, torch.tensor(dataset.targets), tuple(dataset.classes), mean, std)


def _stl10(kind: type[STL10], root: str | Path, download: bool, split: Split) -> ArrayData:
    dataset = _open(kind, root, download, split=STL10_SPLITS[split])
    labels = None if split == "train" else torch.from_numpy(dataset.labels)
    class_names = tuple(getattr(dataset, "classes", ()))  # missing if class_names.txt is missing
    return ArrayData(torch.from_numpy(dataset.data), labels, class_names, *STL10_STATISTICS)


def _open(kind: Callable[..., Any], root: str | Path, download: bool, **which: Any) -> Any:
    """Opens a torchvision data set. torchvision checks the md5 sums before it reads or (CIFAR) unpickles the files."""
    root = Path(root).expanduser()
    try:
        with locked(root / ".download.lock", optional=True) if download else nullcontext(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"dtype\(\): align")  # numpy warns about CIFAR's old pickles
            return kind(root, download=download, **which)
    except (OSError, RuntimeError, URLError) as error:
        name = getattr(kind, "__name__", str(kind))
        if download:
            action, fix = "downloaded to", "download the files in another way and put them there"
        else:
            action, fix = "opened in", "set data.root to torchvision's folder, or set data.download=true"
        raise DataError(f"{name} could not be {action} {root.absolute()}: {error}; {fix}") from error
