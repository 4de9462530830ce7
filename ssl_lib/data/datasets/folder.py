"""Image folders: the training, bank and test images of a folder with splits, class folders or tables of labels."""

from __future__ import annotations

import glob
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ssl_lib.data.base import ImageData, Split, warn
from ssl_lib.data.datasets.folder_data import FolderData
from ssl_lib.data.datasets.layout import Layout
from ssl_lib.data.datasets.scan import Roots, expanded, report_unused, scan
from ssl_lib.data.datasets.splits import find_splits, patterns_below
from ssl_lib.data.io.decode import MAX_PIXELS, Depth, OnError, Pages, Reading
from ssl_lib.data.io.raw import Bands, Range
from ssl_lib.errors import DataError, listed
from ssl_lib.registry import DATASETS

__all__ = ["FolderData", "image_folder"]

_NONE = torch.empty(0, dtype=torch.int64)


@DATASETS.register("image_folder")
def image_folder(
    root: str | Path | list[str],
    test_root: str | Path | None = None,
    bank_root: str | Path | None = None,
    channels: int = 3,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    on_error: OnError = "raise",
    *,
    layout: Layout = "auto",
    exclude: tuple[str, ...] = (),
    files: str | Path | None = None,
    labels: str | Path | None = None,
    test_files: str | Path | None = None,
    test_labels: str | Path | None = None,
    hold_out: float = 0.1,
    range: Range = "auto",
    depth: Depth = 8,
    bands: Bands = None,
    pages: Pages = "first",
    max_pixels: int = MAX_PIXELS,
    split: Split = "train",
) -> ImageData | None:
    """Image files in class folders, with a table of labels, or in any tree without labels (see `FolderData`).

    Args:
        root: Folder of the training images, or several; or a folder with subfolders for the splits, in any case: train
            or training; and val, valid, validation or dev, else test or testing.
        test_root: Labeled test images in class folders.
        bank_root: Labeled training images in class folders, for evaluation if the images of `root` have no labels.
        channels: 3 for RGB, 1 for gray; replaced by the number of `bands`, if they are given.
        mean: Mean of each channel in [0, 1]; None is ImageNet's, or computed from a sample for other channels.
        std: Standard deviation of each channel; None as for `mean`.
        on_error: What to do with an unreadable image: "raise" a DataError, or "skip" it (listed at the end).
        layout: "auto" looks for splits and classes; "splits" ignores folders next to the splits; "classes" takes every
            subfolder as a class, whatever its name; "flat" has no splits and no labels.
        exclude: Glob patterns of files and folders to leave out, such as "*.gif" and "thumbs" at any depth, or
            "2019/raw" from the root.
        files: A text file with the paths of the training images, one per line, relative to `root` or absolute.
        labels: A CSV file with the columns path and class for the training images. Only these images are used.
        test_files: As `files`, for the test images, in `test_root` or in `root`.
        test_labels: As `labels`, for the test images, in `test_root` or in `root`. Images that `test_files` or
            `test_labels` choose in `root` are not trained on; their classes may be in `labels`.
        hold_out: Fraction of the labeled training images of each class that is held out as the test split if there is
            no other; 0 holds out none.
        range: Which values become black and white: "auto" is the range of the file's type, such as 0 to 65535 for 16
            bits; "percentile" is the 1st and 99th percentile of each channel of an image; or two values [low, high].
        depth: 8 for uint8 pixels; 16 for float32 in [0, 1], which keeps 16-bit values.
        bands: Indices of the bands to use, or "all"; None uses gray and RGB files, and refuses other numbers of bands.
        pages: "first" reads the first page of each TIFF file; "all" reads every page as an image of its own.
        max_pixels: Larger images are refused.
        split: See `Split`.

    Raises:
        DataError: A folder is missing or has no images, test or bank images are not in class folders, or the test
            images have a class that the training images do not have.
    """
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    train_root, found = _splits(root, layout, others := _patterns(exclude, test_root, bank_root))
    report_unused([root, test_root, bank_root, *([train_root, found] if found else ())], exclude)
    of_train, of_test = _below(root, train_root, others), _below(root, found, exclude)
    reading = Reading(range=range, depth=depth, bands=bands, pages=pages, max_pixels=max_pixels)
    settings: dict[str, Any] = {"channels": channels, "mean": mean, "std": std, "on_error": on_error, **reading}
    own: Layout = "auto" if layout == "splits" else layout  # test_root and bank_root have class folders
    train = FolderData(train_root, exclude=of_train, files=files, labels=labels, layout=own, **settings)
    settings |= {"mean": train.mean, "std": train.std}
    bank = FolderData(bank_root, exclude=others, **settings) if bank_root is not None and split != "train" else None
    found = found if test_root or test_files or test_labels else _with_classes(found, train, bank, of_test)
    if (inside := not (test_root or found)) and not (test_files or test_labels):
        return _held_out(train, bank, split, hold_out)
    settings |= {"exclude": of_test, "layout": "auto" if test_root else own, "files": test_files}
    settings["labels"] = test_labels or (labels if inside else None)
    test = partial(_test, test_root or found or train_root, train, bank, settings)
    return test() if split == "test" else _held_out(train.without(test()) if inside else train, bank, split, 0)


def _splits(root: Roots, layout: Layout, exclude: tuple[str, ...]) -> tuple[Roots, Path | None]:
    """Returns the folders of the training images, and the folder of the test images if it is found."""
    roots = expanded(root)
    if len(roots) == 1:
        return find_splits(Path(roots[0]), layout, exclude)
    if layout == "splits":
        raise DataError("layout=splits needs one root, not several")
    return roots, None


def _source(train: FolderData, bank: FolderData | None) -> FolderData | None:
    """Returns the labeled training images, or else the labeled bank."""
    return next((data for data in (train, bank) if data is not None and data.labels is not None), None)


def _with_classes(
    folder: Path | None, train: FolderData, bank: FolderData | None, exclude: tuple[str, ...]
) -> Path | None:
    """Returns a folder of test images if it has class folders; one is enough if the classes are known."""
    known = _source(train, bank) is not None
    if folder is None or any(scan([str(folder)], str(folder), "auto", _patterns(exclude), known).classes):
        return folder
    warn(f"{folder}: not used for evaluation: it needs one subfolder per class, or data.test_labels")
    return None


def _test(folder: Roots, train: FolderData, bank: FolderData | None, settings: dict[str, Any]) -> FolderData:
    """Opens the test images, with the classes of the labeled training images, or else of the bank."""
    source = _source(train, bank)
    test = FolderData(folder, class_names=() if source is None else source.class_names, **settings)
    if test.labels is None:
        raise DataError(f"{test.root}: the test images need labels, one subfolder per class")
    return test


def _held_out(train: FolderData, bank: FolderData | None, split: Split, fraction: float) -> FolderData | None:
    """Returns a split, whose test images are held out from the labeled training images, or else from the bank.

    Args:
        train: The training images.
        bank: The bank, or None.
        split: The split to return.
        fraction: See `hold_out` of `image_folder`.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"hold_out must be a fraction in [0, 1), got {fraction}")
    source = _source(train, bank)
    held = source.hold_out(fraction) if fraction and source is not None else _NONE
    if fraction and source is not None and not len(held):
        warn(f"{source.root}: no class has two images or more, so none is held out for evaluation")
    if split == "test":
        return source.subset(held) if source is not None and len(held) else None
    data = train if split == "train" else bank
    if split == "bank" and bank is not None and bank.labels is None:
        raise DataError(f"{bank.root}: the bank images need labels, one subfolder per class")
    if data is None or data is not source or not len(held):
        return data
    classes = f"each of the {len(data.class_names)} classes ({listed(data.class_names, 3)})"
    warn(
        f"{data.root}: no labeled test split, so {len(held):,} of {len(data):,} images, {100 * fraction:g} % of "
        f"{classes} and at least one, are held out for evaluation; training on this folder leaves them out; set "
        "data.test_root, or data.hold_out=0 to train on all images, or data.layout=flat if the folders are no classes"
    )
    kept = torch.ones(len(data), dtype=torch.bool)
    kept[held] = False
    return data.subset(kept.nonzero()[:, 0])


def _below(root: Roots, folder: Roots | None, exclude: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the patterns for a split below the root, to which they are relative; unchanged for other folders."""
    if not isinstance(folder, Path) or str(folder) == (start := expanded(root)[0]):
        return exclude
    return patterns_below(start, folder.name, exclude)


def _patterns(exclude: tuple[str, ...], *folders: str | Path | None) -> tuple[str, ...]:
    """Adds patterns that leave out folders wherever they are inside another."""
    return (*exclude, *(glob.escape(os.path.realpath(Path(folder).expanduser())) for folder in folders if folder))
