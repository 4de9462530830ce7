"""Resumable .npy files: arrays that are written image by image and can be interrupted at any time."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ssl_lib.data.base import ImageData
from ssl_lib.data.datasets.folder_data import FolderData
from ssl_lib.data.io.decode import Decoder
from ssl_lib.data.tiles import Tiles
from ssl_lib.errors import DataError
from ssl_lib.utils.files import locked, write_text

__all__ = ["RowFile", "describe_source", "digest", "held"]

_SAVE_EVERY = 1.0  # seconds between two writes of the state


class RowFile:
    """A .npy file with one row per image, in the order of the images, that can be interrupted at any time.

    An unfinished file has the name of `target` followed by `.partial`. A JSON file in the same folder records the
    source of the rows, the number of images done, and the skipped images. A second `RowFile` with the same source
    resumes from this state.

    Args:
        target: The .npy file to write.
        state: Name of the JSON file in the same folder.
        source: JSON values that identify the images and settings of the rows.
        total: Number of images.
        shape: Shape of a row.
        dtype: Data type of a row.
        command: The command that writes the file, `pack` or `embed`, for messages.

    Attributes:
        done: Number of images processed, including the skipped ones.
        skipped: Names of the skipped images, which have no row, by index.

    Raises:
        DataError: The existing files have a different source, or are damaged.
    """

    def __init__(
        self,
        target: Path,
        state: str,
        source: Mapping[str, Any],
        total: int,
        shape: tuple[int, ...],
        dtype: Any,
        command: str,
    ) -> None:
        self.target, self.source, self.total, self.command = target, source, total, command
        self.done, self.skipped = 0, dict[int, str]()
        self._folder, self._state = target.parent, target.with_name(state)
        self._partial = target.with_name(target.name + ".partial")
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._saved = -math.inf
        if self._state.exists():
            self._load()

    @property
    def count(self) -> int:
        """Number of rows written so far."""
        return self.done - len(self.skipped)

    @property
    def width(self) -> int:
        """Number of values in a row."""
        return math.prod(self._shape)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Opens the file for `append`, truncated after the last complete row. On exit, the appended rows are saved."""
        row = self.width * self._dtype.itemsize
        start = len(self._header()) + self.count * row
        with self._partial.open("r+b" if self.done else "wb") as file:
            file.write(self._header())
            have = file.seek(0, os.SEEK_END)
            if have < start:
                raise DataError(f"{self._partial} is shorter than {self._state.name} states; {self._again()}")
            needed, free = start + (self.total - self.done) * row - have, shutil.disk_usage(self._folder).free
            if needed > free:
                raise DataError(
                    f"{self._folder}: the images need {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB left; "
                    f"free disk space or choose another disk"
                )
            file.truncate(start)
            file.seek(start)
            self._saved = time.monotonic()
            try:
                yield file
            finally:
                self._save(file)

    def append(self, file: BinaryIO, end: int, rows: npt.NDArray[Any], left_out: Mapping[int, str]) -> None:
        """Appends the rows of the images from `done` to `end`, except for `left_out`: names of images, by index."""
        assert len(rows) + len(left_out) == end - self.done
        if len(rows):
            file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.skipped.update(left_out)
        self.done = end
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self._save(file)
            self._saved = time.monotonic()

    def finish(self) -> None:
        """Writes the final length into the header and renames the file to `target`."""
        with self._partial.open("r+b") as file:
            file.write(self._header())
            _flush(file)
        os.replace(self._partial, self.target)

    def _header(self) -> bytes:
        """Returns the .npy header. numpy pads it, so its length does not depend on the number of rows."""
        header = io.BytesIO()
        shape = (self.count, *self._shape)
        descr = np.lib.format.dtype_to_descr(self._dtype)
        np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
        return header.getvalue()

    def _save(self, file: BinaryIO) -> None:
        _flush(file)
        skipped = [(index, name) for index, name in self.skipped.items() if index < self.done]
        state = {"source": self.source, "done": self.done, "skipped": skipped}
        write_text(self._state, json.dumps(state, indent=1))

    def _load(self) -> None:
        try:
            state = json.loads(self._state.read_bytes())
            source, done, skipped = state["source"], int(state["done"]), dict(state["skipped"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._state} cannot be read ({error}); {self._again()}") from error
        if not done:
            return  # there are no rows to resume
        if source != self.source:
            key = next(key for key in self.source if source.get(key) != self.source[key])
            raise DataError(
                f"{self._folder} is written by {self.command} from another source ({key}: {source.get(key)} there, "
                f"{self.source[key]} here); choose another place, or {self._again()}"
            )
        if self._partial.exists() or self.target.exists():
            self.done, self.skipped = done, skipped

    def _again(self) -> str:
        return f"remove {self._folder} and run {self.command} again"


@contextmanager
def held(folder: Path, verb: str) -> Iterator[None]:
    """Locks a folder against a second process that writes to it.

    Raises:
        DataError: Another process holds the lock.
    """
    try:
        with locked(folder / ".lock", wait=False):
            yield
    except BlockingIOError as error:
        raise DataError(f"{folder}: another {verb} is writing to it; wait until it has ended") from error


def describe_source(data: ImageData) -> dict[str, Any]:
    """Describes the images of a data set: file names, labels and classes, but not the contents of the files."""
    labels = b"" if data.labels is None else data.labels.numpy().tobytes() + json.dumps(data.class_names).encode()
    source: dict[str, Any] = {"images": len(data), "channels": data.channels, "labels": digest(labels)}
    if isinstance(data, Tiles):
        return {**describe_source(data.data), **source, "tile": data.size}
    decoder = getattr(data, "decoder", None) or Decoder()
    for name in ("range", "depth", "bands", "pages"):
        if (value := getattr(decoder, name)) != getattr(Decoder(), name):
            source[name] = list(value) if isinstance(value, tuple) else value
    if not isinstance(data, FolderData):
        return {"type": type(data).__name__, **source, "mean": list(data.mean or ())}
    names = "\0".join(os.sep + data.name(index) for index in range(len(data)))
    return {"folder": os.path.realpath(data.root), **source, "names": digest(os.fsencode(names))}


def digest(content: bytes) -> str:
    """Returns a short fingerprint."""
    return hashlib.sha256(content).hexdigest()[:16]


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
