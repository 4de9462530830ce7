"""Image files to one memory-mappable array: decoded and resized once, not in every epoch."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from tqdm import tqdm

from ssl_lib.data.base import ImageData, Split
from ssl_lib.data.decode import OnError
from ssl_lib.data.folder import FolderData, image_folder
from ssl_lib.data.workers import EvaluationBatches, Workers, worker_crashes
from ssl_lib.errors import DataError

__all__ = ["Packed", "pack", "pack_folder"]

_BATCH = 32  # images that a worker hands over at once: 6 MB at 256 pixels
_SAVE_EVERY = 1.0  # seconds
_OURS = ("pack.json", "images.npy.partial", "images.npy")
_LABELS = ("labels.npy", "classes.json")


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

    Every image has its shorter side resized to `size` (bicubic, antialiased; smaller ones are enlarged) and its centre
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
        with _alone(folder), worker_crashes():
            job = _Job(data, folder, size)
            before = job.count
            if job.done < len(data):
                job.write_images(workers, progress)
            job.finish()
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror}); free space or choose another folder. A second call "
            "with this folder goes on where this one stopped"
        ) from error
    return job.result(written=job.count - before)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the folder against a second pack into it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise DataError(f"{folder}: another pack is writing to it; wait for its end") from error
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # for the worker processes too, which inherited it
        os.close(handle)


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


class _Job:
    """The state of one pack, kept in pack.json: the source, how many of its images are done, which were skipped."""

    def __init__(self, data: ImageData, folder: Path, size: int) -> None:
        self.data, self.folder, self.size = data, folder, size
        self.done, self.skipped = 0, dict[int, str]()
        self._source = _fingerprint(data, size)
        self._state, self._partial, self._images = map(folder.joinpath, _OURS)
        if self._state.exists():
            self._load()
        elif found := [name for name in ("images.npy", *_LABELS) if (folder / name).exists()]:
            raise DataError(f"{folder} holds {', '.join(found)} of another origin; choose another folder")

    @property
    def count(self) -> int:
        """Number of images in the array so far."""
        return self.done - len(self.skipped)

    def write_images(self, workers: int | None, progress: bool) -> None:
        """Appends the images that are not done yet to images.npy.partial."""
        row = self.size**2 * self.data.channels
        start = len(self._header()) + self.count * row
        with self._partial.open("r+b" if self.done else "wb") as file:
            file.write(self._header())
            have = file.seek(0, os.SEEK_END)
            if have < start:
                raise DataError(f"{self._partial} is shorter than pack.json says; remove {self.folder} and pack again")
            needed, free = start + (len(self.data) - self.done) * row - have, shutil.disk_usage(self.folder).free
            if needed > free:
                raise DataError(
                    f"{self.folder}: the images need {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB left; "
                    "free some, choose another folder or a smaller size"
                )
            file.truncate(start)
            file.seek(start)
            try:
                self._append(file, workers, progress)
            finally:
                self._save(file)

    def finish(self) -> None:
        """Writes labels and class names, and gives the array its true length and its name, if that is still to do."""
        if self._images.exists():
            return
        if not self.count:
            raise DataError(f"none of the {len(self.data)} images can be read; the first is {self.skipped[0]}")
        if self.data.labels is not None:
            kept = torch.ones(len(self.data), dtype=torch.bool)
            kept[list(self.skipped)] = False
            labels = io.BytesIO()
            np.save(labels, self.data.labels[kept].numpy().astype(np.int64), allow_pickle=False)
            _replace(self.folder / _LABELS[0], labels.getvalue())
            if self.data.class_names:
                _replace(self.folder / _LABELS[1], json.dumps(self.data.class_names, indent=0).encode())
        with self._partial.open("r+b") as file:
            file.write(self._header())
            _flush(file)
        os.replace(self._partial, self._images)

    def result(self, written: int) -> Packed:
        labels, classes = (path if path.exists() else None for path in map(self.folder.joinpath, _LABELS))
        return Packed(self._images, labels, classes, self.count, written, tuple(self.skipped.values()))

    def _append(self, file: BinaryIO, workers: int | None, progress: bool) -> None:
        batches = torch.arange(self.done, len(self.data)).split(_BATCH)
        reader = Workers(EvaluationBatches(self.data, self.size, self.size), workers, len(batches), [])
        saved = time.monotonic()
        with tqdm(total=len(self.data), initial=self.done, unit="image", disable=None if progress else True) as bar:
            for wanted, read in zip(batches, reader.read(0, batches), strict=True):
                if len(read.indices):
                    file.write(read.images[0].permute(0, 2, 3, 1).contiguous().numpy().data)
                left_out = sorted(set(wanted.tolist()).difference(read.indices.tolist()))
                self.skipped.update(zip(left_out, read.skipped, strict=True))
                self.done += len(wanted)
                bar.update(len(wanted))
                if time.monotonic() - saved > _SAVE_EVERY:
                    self._save(file)
                    saved = time.monotonic()

    def _header(self) -> bytes:
        """The head of the .npy file; numpy leaves room in it, so that its length does not depend on the count."""
        header = io.BytesIO()
        shape = (self.count, self.size, self.size, self.data.channels)
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return header.getvalue()

    def _save(self, file: BinaryIO) -> None:
        _flush(file)
        skipped = [(index, name) for index, name in self.skipped.items() if index < self.done]
        state = {"source": self._source, "done": self.done, "skipped": skipped}
        _replace(self._state, json.dumps(state, indent=1).encode())

    def _load(self) -> None:
        try:
            state = json.loads(self._state.read_bytes())
            source, done, skipped = state["source"], int(state["done"]), dict(state["skipped"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._state} cannot be read ({error}); remove {self.folder} and pack again") from error
        if not done:
            return  # nothing of it was packed
        if source != self._source:
            key = next(key for key in self._source if source.get(key) != self._source[key])
            raise DataError(
                f"{self.folder} holds a pack of another source ({key}: {source.get(key)} there, {self._source[key]} "
                "here); choose another folder, or remove it and pack again"
            )
        if self._partial.exists() or self._images.exists():
            self.done, self.skipped = done, skipped


def _fingerprint(data: ImageData, size: int) -> dict[str, Any]:
    """What tells a source from others: its files by name, its labels and classes; not the files' contents."""
    labels = b"" if data.labels is None else data.labels.numpy().tobytes() + json.dumps(data.class_names).encode()
    source: dict[str, Any] = {"images": len(data), "channels": data.channels, "size": size, "labels": _digest(labels)}
    if not isinstance(data, FolderData):
        return {"type": type(data).__name__, **source, "mean": list(data.mean)}
    names = "\0".join(data.path(index).removeprefix(data.root) for index in range(len(data)))
    return {"folder": os.path.realpath(data.root), **source, "names": _digest(os.fsencode(names))}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        _flush(file)
    os.replace(new, path)
