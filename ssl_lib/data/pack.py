"""Packs image files into one memory-mapped array, so that they are decoded and resized only once."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_lib.data.base import ImageData, Split
from ssl_lib.data.center_crop import resize_and_crop
from ssl_lib.data.datasets.folder import image_folder
from ssl_lib.data.datasets.folder_data import FolderData
from ssl_lib.data.io.decode import OnError
from ssl_lib.data.io.pillow import MAX_PIXELS
from ssl_lib.data.resumable import RowFile, describe_source, held
from ssl_lib.data.tiles import Tiles
from ssl_lib.data.worker_errors import worker_crashes
from ssl_lib.data.workers import EvaluationBatches, WorkerPool
from ssl_lib.errors import DataError
from ssl_lib.utils.files import whole_file, write_text
from ssl_lib.utils.progress_bar import progress_bar

__all__ = ["Packed", "pack", "pack_folder"]

_BATCH = 32  # images per batch of a worker: 6 MB at 256 pixels
_TILES = 256  # tiles of one image per batch of a worker
_LABELS = ("labels.npy", "classes.json")
_EMPTY = np.empty((0,), np.uint8)
_EIGHT_BITS = "pack writes 8-bit images: read the images with data.depth=8, and data.range if they are dark"


@dataclass(frozen=True)
class Packed:
    """Result of `pack`.

    Attributes:
        images: uint8 .npy (count, size, size, C).
        labels: int64 .npy (count,), or None for data without labels.
        classes: JSON list of the class names in the order of their indices, or None without class names.
        count: Number of images in the file.
        written: Number of images added by this call; 0 if the file was already complete.
        skipped: Names of the unreadable images that were left out.
    """

    images: Path
    labels: Path | None
    classes: Path | None
    count: int
    written: int
    skipped: tuple[str, ...]


def pack(
    data: ImageData, destination: str | Path, size: int, *, workers: int | None = None, progress: bool = True
) -> Packed:
    """Writes a data set as files for `arrays`: images.npy, and labels.npy and classes.json if there are labels.

    The shorter side of every image is resized to `size` (bicubic, antialiased; smaller images are enlarged), then the
    center is cropped. The call can be interrupted at any time: an incomplete images.npy is named images.npy.partial,
    and a second call resumes from the state in pack.json.

    Args:
        data: The images. An image that raises SkipImage is left out.
        destination: The folder to write to. It is created if it does not exist.
        size: Height and width in pixels.
        workers: Number of worker processes. 0 reads in this process; None is the number of CPUs, at most 8.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        DataError: An image cannot be read, a worker is killed, the destination contains a pack from another source or
            cannot be written, the disk is too small, or no image can be read.
        ValueError: `size` is below 1 or `workers` below 0.
    """
    if size < 1 or (workers is not None and workers < 0):
        raise ValueError(f"size must be at least 1 pixel and workers at least 0, got {size} and {workers}")
    folder = Path(destination).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder, "pack"), worker_crashes():
            rows = _rows(data, folder, size)
            before = rows.count
            if rows.done < len(data):
                _write_images(data, rows, size, workers, progress)
            _finish(data, rows)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror}); free space or choose another folder. Packing "
            "into this folder again resumes where it stopped"
        ) from error
    return _result(rows, written=rows.count - before)


def pack_folder(
    root: str | Path,
    destination: str | Path,
    size: int,
    *,
    channels: int = 3,
    on_error: OnError = "raise",
    workers: int | None = None,
    progress: bool = True,
    tile: bool = False,
    **options: Any,
) -> dict[Split, Packed]:
    """Packs every split of an image folder into a subfolder with its name: `train` and, if it exists, `test`.

    `root`, `channels`, `on_error` and further `options`, such as `bands` and `exclude`, are passed to `image_folder`,
    the other arguments to `pack`. Both functions document the errors. The destination must not be inside `root`, where
    it would become an additional class. With `tile`, images of any size are cut into tiles of `size` pixels instead of
    being resized, see `Tiles`.
    """
    source, target = Path(root).expanduser().resolve(), Path(destination).expanduser().resolve()
    if target == source or source in target.parents:
        raise DataError(f"{destination} is inside the folder of the images, {root}; choose a folder outside of it")
    options = {"max_pixels": sys.maxsize if tile else MAX_PIXELS, **options}
    read = partial(image_folder, root, channels=channels, on_error=on_error, hold_out=0, **options)
    packed: dict[Split, Packed] = {}
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        data = read(split=split)
        if data is not None:
            images = Tiles(data, size) if tile and isinstance(data, FolderData) else data
            packed[split] = pack(images, Path(destination) / split, size, workers=workers, progress=progress)
    return packed


def _rows(data: ImageData, folder: Path, size: int) -> RowFile:
    """Opens the file of the images. Files in the folder that `pack` did not write are never overwritten."""
    if not (folder / "pack.json").exists():
        existing = [name for name in ("images.npy", *_LABELS) if (folder / name).exists()]
        if existing:
            raise DataError(f"{folder} contains {', '.join(existing)} not written by pack; choose another folder")
    if getattr(getattr(data, "decoder", None), "depth", 8) == 16:
        raise DataError(_EIGHT_BITS)
    source = {**describe_source(data), "size": size}
    shape = (size, size, data.channels)
    return RowFile(folder / "images.npy", "pack.json", source, len(data), shape, np.uint8, "pack")


def _write_images(data: ImageData, rows: RowFile, size: int, workers: int | None, progress: bool) -> None:
    """Appends the images that are not written yet."""
    batches = _batches(data, rows.done)
    reader = WorkerPool(
        EvaluationBatches(data, partial(resize_and_crop, size=size, shorter_side=size)), workers, len(batches), []
    )
    bar = progress_bar(total=len(data), initial=rows.done, unit="image", leave=True, show=progress)
    with rows.opened() as file, bar:
        for indices, read in zip(batches, reader.read(0, batches), strict=True):
            images = read.images[0].permute(0, 2, 3, 1).numpy() if len(read.indices) else _EMPTY
            if images.dtype != np.uint8:
                raise DataError(_EIGHT_BITS)
            left_out = sorted(set(indices.tolist()).difference(read.indices.tolist()))
            rows.append(file, rows.done + len(indices), images, dict(zip(left_out, read.skipped, strict=True)))
            bar.update(len(indices))


def _batches(data: ImageData, start: int) -> list[Tensor]:
    """Splits the images from `start` on; tiles of one image stay together, as each batch decodes its images."""
    indices = torch.arange(start, len(data))
    if not isinstance(data, Tiles):
        return list(indices.split(_BATCH))
    counts = data.images[start:].unique_consecutive(return_counts=True)[1].tolist()
    return [part for tiles in indices.split(counts) for part in tiles.split(_TILES)]


def _finish(data: ImageData, rows: RowFile) -> None:
    """Writes labels and class names and renames the array to images.npy, unless this is already done."""
    if rows.target.exists():
        return
    if not rows.count:
        raise DataError(f"none of the {len(data)} images can be read; the first is {rows.skipped[0]}")
    labels, classes = map(rows.target.with_name, _LABELS)
    if data.labels is not None:
        kept = torch.ones(len(data), dtype=torch.bool)
        kept[list(rows.skipped)] = False
        with whole_file(labels) as partial, partial.open("wb") as file:
            np.save(file, data.labels[kept].numpy().astype(np.int64), allow_pickle=False)
        if data.class_names:
            write_text(classes, json.dumps(data.class_names, indent=0))
    rows.finish()


def _result(rows: RowFile, written: int) -> Packed:
    labels, classes = (path if path.exists() else None for path in map(rows.target.with_name, _LABELS))
    return Packed(rows.target, labels, classes, rows.count, written, tuple(rows.skipped.values()))
