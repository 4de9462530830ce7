"""Image files to one memory-mappable array: decoded and resized once, not in every epoch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ssl_lib.data.base import ImageData, Split
from ssl_lib.data.datasets.folder import image_folder
from ssl_lib.data.io.decode import OnError
from ssl_lib.data.resumable import RowFile, Words, describe_source, held
from ssl_lib.data.worker_errors import worker_crashes
from ssl_lib.data.workers import EvaluationBatches, WorkerPool
from ssl_lib.errors import DataError
from ssl_lib.utils.files import whole_file, write_text

__all__ = ["Packed", "pack", "pack_folder"]

_BATCH = 32  # images that a worker hands over at once: 6 MB at 256 pixels
_LABELS = ("labels.npy", "classes.json")
_WORDS = Words("a pack", "pack", "another folder or size")
_NONE = np.empty((0,), np.uint8)


@dataclass(frozen=True)
class Packed:
    """What `pack` made, or found complete.

    Attributes:
        images: uint8 .npy (count, size, size, C).
        labels: int64 .npy (count,), or None for data without labels.
        classes: JSON list of the class names in the order of their indices, or None where they have none.
        count: Number of images in the file.
        written: How many of them this call added; 0 if the file was complete already.
        skipped: Images that could not be read and were left out.
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
    """Writes a data set as arrays that `arrays` reads: images.npy, and with labels labels.npy and classes.json.

    Every image has its shorter side resized to `size` (bicubic, antialiased; smaller ones are enlarged) and its center
    cropped. May be interrupted at any time: images.npy is images.npy.partial until all is complete, and a second call
    goes on where pack.json says that the first one stopped.

    Args:
        data: The images. Those that ask to be skipped (see `SkipImage`) are left out.
        destination: The folder to write to, made if it is missing.
        size: Height and width in pixels.
        workers: Number of worker processes; 0 reads in this one, None is the number of CPUs, at most 8.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        DataError: An image cannot be read, a worker is killed, the destination is of another source or cannot be
            written, the disk is too small, or no image can be read.
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
            f"{folder}: cannot be written ({error.strerror}); free space or choose another folder. A second call "
            "with this folder goes on where this one stopped"
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
) -> dict[Split, Packed]:
    """Packs every split of an image folder, each into a subfolder of its name: `train` and, where there is one, `test`.

    `root`, `channels` and `on_error` are those of `image_folder`, the rest is as in `pack`; so are the errors raised.
    The destination may not lie in `root`, where it would be one more class.
    """
    source, made = Path(root).expanduser().resolve(), Path(destination).expanduser().resolve()
    if made == source or source in made.parents:
        raise DataError(f"{destination} lies in the folder of the images, {root}; choose a folder outside of it")
    splits: dict[Split, ImageData | None] = {
        "train": image_folder(root, channels=channels, on_error=on_error),
        "test": image_folder(root, channels=channels, on_error=on_error, split="test"),
    }
    return {
        split: pack(data, Path(destination) / split, size, workers=workers, progress=progress)
        for split, data in splits.items()
        if data is not None
    }


def _rows(data: ImageData, folder: Path, size: int) -> RowFile:
    """The file of the images; what lies in the folder and is not ours stays as it is."""
    if not (folder / "pack.json").exists():
        found = [name for name in ("images.npy", *_LABELS) if (folder / name).exists()]
        if found:
            raise DataError(f"{folder} holds {', '.join(found)} of another origin; choose another folder")
    source = {**describe_source(data), "size": size}
    shape = (size, size, data.channels)
    return RowFile(folder / "images.npy", "pack.json", source, len(data), shape, np.uint8, _WORDS)


def _write_images(data: ImageData, rows: RowFile, size: int, workers: int | None, progress: bool) -> None:
    """Appends the images that are not done yet."""
    batches = torch.arange(rows.done, len(data)).split(_BATCH)
    reader = WorkerPool(EvaluationBatches(data, size, size), workers, len(batches), [])
    bar = tqdm(total=len(data), initial=rows.done, unit="image", disable=None if progress else True)
    with rows.opened() as file, bar:
        for wanted, read in zip(batches, reader.read(0, batches), strict=True):
            images = read.images[0].permute(0, 2, 3, 1).numpy() if len(read.indices) else _NONE
            left_out = sorted(set(wanted.tolist()).difference(read.indices.tolist()))
            rows.append(file, rows.done + len(wanted), images, dict(zip(left_out, read.skipped, strict=True)))
            bar.update(len(wanted))


def _finish(data: ImageData, rows: RowFile) -> None:
    """Writes labels and class names, and gives the array its name, if that is still to do."""
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
