"""Image folder data set, with one subfolder per class or without labels."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset, Split, checked_statistics
from ssl_lib.data.io.decode import OnError, check_reading, read_image
from ssl_lib.data.io.index import EXTENSIONS, list_images
from ssl_lib.distributed import rank
from ssl_lib.errors import DataError, listed
from ssl_lib.registry import DATASETS

__all__ = ["EXTENSIONS", "FolderData", "image_folder"]


class FolderData(ImageDataset):
    """An `ImageData` of the image files under a folder, sorted by path (see `list_images`).

    If the folder itself contains no images and at least two of its subfolders do (at any depth), these subfolders are
    the classes, sorted by name. Otherwise the images have no labels.

    Args:
        root: The folder.
        channels: 3 for RGB, 1 for gray.
        mean: Mean of each channel in [0, 1]; None is ImageNet's.
        std: Standard deviation of each channel; None is ImageNet's.
        on_error: What to do with an unreadable image: "raise" a DataError, or "skip" it (see `SkipImage`).
        class_names: The expected classes, so that the labels match those of another folder. If empty, the subfolders
            are the classes.

    Attributes:
        skipped: The unreadable files that loaders skipped so far, in any worker process.

    Raises:
        DataError: The folder is missing, is a file, has no images, or has a class that is not in `class_names`.
        ValueError: `channels`, `on_error` or the statistics are out of range.
    """

    def __init__(
        self,
        root: str | Path,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        on_error: OnError = "raise",
        class_names: tuple[str, ...] = (),
    ) -> None:
        check_reading(channels, on_error)
        self.mean, self.std = checked_statistics(mean, std, channels)
        self.root = str(Path(root).expanduser())
        self.channels = channels
        self.on_error = on_error
        self.skipped: list[str] = []
        self.labels, self.class_names, self._paths = _scan(self.root, class_names)

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> str:
        """Returns the path of one image."""
        return os.path.join(self.root, self.name(index))

    def name(self, index: int) -> str:
        """Returns the path of one image relative to the folder."""
        return os.fsdecode(self._paths[index])

    def read(self, index: int) -> Tensor:
        """Returns one image, uint8 (C, H, W).

        Raises:
            DataError: The file cannot be read. This is a SkipImage if `on_error` is "skip".
        """
        path = self.path(index)
        return read_image(path, path, self.channels, self.on_error)


@DATASETS.register("image_folder")
def image_folder(
    root: str | Path,
    test_root: str | Path | None = None,
    bank_root: str | Path | None = None,
    channels: int = 3,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    on_error: OnError = "raise",
    split: Split = "train",
) -> ImageData | None:
    """Image files (PNG, JPEG, WebP, BMP, TIFF) in class folders, or in any tree without labels (see `FolderData`).

    Args:
        root: Folder of the training images; or a folder with the subfolders `train` and `val` or `test` (`val` is
            preferred).
        test_root: Labeled test images in class folders.
        bank_root: Labeled training images in class folders, for evaluation if the images of `root` have no labels.
        channels: 3 for RGB, 1 for gray.
        mean: Mean of each channel in [0, 1]; None is ImageNet's.
        std: Standard deviation of each channel; None is ImageNet's.
        on_error: What to do with an unreadable image: "raise" a DataError, or "skip" it (listed at the end).
        split: See `Split`.

    Raises:
        DataError: A folder is missing or has no images, test or bank images are not in class folders, or the test
            images have a class that the training images do not have.
    """
    train, found_test = _split_folders(Path(root).expanduser())
    if split == "train":
        return FolderData(train, channels, mean, std, on_error)
    folder = bank_root if split == "bank" else (test_root or found_test)
    if folder is None:
        return None
    expected: list[str] = []
    if split == "test":
        expected = _class_folders(list_images(str(train)))
        if bank_root and not expected:
            expected = _class_folders(list_images(str(Path(bank_root).expanduser())))
    data = FolderData(folder, channels, mean, std, on_error, tuple(expected))
    if data.labels is not None:
        return data
    problem = f"{folder}: the {split} images need labels, one subfolder per class"
    if split == "test" and not test_root:
        if rank() == 0:
            warnings.warn(f"{problem}; they are not used for evaluation", stacklevel=2)
        return None
    raise DataError(problem)


def _split_folders(root: Path) -> tuple[Path, Path | None]:
    _check_folder(str(root))
    if not (root / "train").is_dir():
        return root, None
    for name in ("val", "test"):
        if (root / name).is_dir():
            return root / "train", root / name
    try:
        only_train = all(name == "train" for name in os.listdir(root) if not name.startswith("."))
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({error.strerror})") from error
    return (root / "train" if only_train else root), None


def _scan(root: str, class_names: tuple[str, ...]) -> tuple[Tensor | None, tuple[str, ...], npt.NDArray[np.bytes_]]:
    """Returns labels, class names and relative paths of the images in a folder."""
    _check_folder(root)
    images = list_images(root)
    if not images:
        raise DataError(f"{root}: no images in this folder or its subfolders (expected *{', *'.join(EXTENSIONS)})")
    # One array of bytes, not a list: updating reference counts would copy the list in every forked worker.
    paths = np.array(os.fsencode("\0".join(folder + name for folder, names in images for name in names)).split(b"\0"))
    folders = _class_folders(images, at_least=1 if class_names else 2)
    if not folders:
        return None, (), paths
    names = class_names or tuple(folders)
    unknown = sorted(set(folders) - set(names))
    if unknown:
        raise DataError(
            f"{os.path.join(root, unknown[0])}: the training images have no class {unknown[0]!r}; "
            f"their {len(names)} classes are {listed(names, 8)}"
        )
    classes = {name: index for index, name in enumerate(names)}
    labels = torch.tensor([classes[_top(folder)] for folder, _ in images])
    return labels.repeat_interleave(torch.tensor([len(files) for _, files in images])), names, paths


def _class_folders(images: list[tuple[str, list[str]]], at_least: int = 2) -> list[str]:
    """Returns the subfolders with images; empty if the folder itself has images or there are fewer than `at_least`."""
    names = list(dict.fromkeys(_top(folder) for folder, _ in images))
    return names if len(names) >= at_least and "" not in names else []


def _top(folder: str) -> str:
    return folder.partition("/")[0]


def _check_folder(root: str) -> None:
    if not os.path.isdir(root):
        problem = "is a file, not a folder" if os.path.exists(root) else "does not exist"
        hint = "" if os.path.isabs(root) else f" ({root!r} is relative to the working directory)"
        raise DataError(f"{os.path.abspath(root)} {problem}; expected a folder of images{hint}")
