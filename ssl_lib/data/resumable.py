"""Arrays that are filled image by image, and go on where they were broken off."""

from __future__ import annotations

import fcntl
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
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ssl_lib.data.base import ImageData
from ssl_lib.data.datasets.folder import FolderData
from ssl_lib.errors import DataError
from ssl_lib.utils.files import write_text

__all__ = ["RowFile", "Words", "describe_source", "digest", "held"]

_SAVE_EVERY = 1.0  # seconds


class Words(NamedTuple):
    """How messages speak of a file of rows, such as `("a pack", "pack", "another folder or size")`."""

    what: str
    verb: str
    other: str


class RowFile:
    """A .npy file with a row per image, in their order, that may be broken off at any time.

    Until all is there it is `target` with `.partial` behind its name. A JSON file beside it says what the rows are made
    of, how many images are done, and which were left out: a second `RowFile` of the same source goes on from there.

    Args:
        target: The .npy file to make.
        state: Name of the JSON file beside it.
        source: What tells these rows from others, as JSON has it.
        total: Number of images.
        shape: Of a row.
        dtype: Of a row.
        words: For messages.

    Attributes:
        done: Number of images that were seen to.
        skipped: Those of them that have no row, by index, with their names.

    Raises:
        DataError: What lies there is of another source, or damaged.
    """

    def __init__(
        self, target: Path, state: str, source: Mapping[str, Any], total: int, shape: tuple[int, ...], dtype: Any,
        words: Words,
    ) -> None:  # fmt: skip
        self.target, self.source, self.total, self.words = target, source, total, words
        self.done, self.skipped = 0, dict[int, str]()
        self._folder, self._state = target.parent, target.with_name(state)
        self._partial = target.with_name(target.name + ".partial")
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._saved = -math.inf
        if self._state.exists():
            self._load()

    @property
    def count(self) -> int:
        """Number of rows so far."""
        return self.done - len(self.skipped)

    @property
    def width(self) -> int:
        """Number of values in a row."""
        return math.prod(self._shape)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file to `append` to, cut after the last row that is known to be whole; what is appended is kept."""
        row = self.width * self._dtype.itemsize
        start = len(self._header()) + self.count * row
        with self._partial.open("r+b" if self.done else "wb") as file:
            file.write(self._header())
            have = file.seek(0, os.SEEK_END)
            if have < start:
                raise DataError(f"{self._partial} is shorter than {self._state.name} says; {self._again()}")
            needed, free = start + (self.total - self.done) * row - have, shutil.disk_usage(self._folder).free
            if needed > free:
                raise DataError(
                    f"{self._folder}: the images need {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB left; "
                    f"free some, or choose {self.words.other}"
                )
            file.truncate(start)
            file.seek(start)
            self._saved = time.monotonic()
            try:
                yield file
            finally:
                self._save(file)

    def append(self, file: BinaryIO, end: int, rows: npt.NDArray[Any], left_out: Mapping[int, str]) -> None:
        """Adds the rows of the images from `done` to `end`, but for those left out, by index with their names."""
        assert len(rows) + len(left_out) == end - self.done
        if len(rows):
            file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.skipped.update(left_out)
        self.done = end
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self._save(file)
            self._saved = time.monotonic()

    def finish(self) -> None:
        """Gives the array its true length and its name."""
        with self._partial.open("r+b") as file:
            file.write(self._header())
            _flush(file)
        os.replace(self._partial, self.target)

    def _header(self) -> bytes:
        """The head of the .npy file; numpy leaves room in it, so that its length does not depend on the count."""
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
            return  # nothing of it was made
        if source != self.source:
            key = next(key for key in self.source if source.get(key) != self.source[key])
            raise DataError(
                f"{self._folder} holds {self.words.what} of another source ({key}: {source.get(key)} there, "
                f"{self.source[key]} here); choose {self.words.other}, or remove it and {self.words.verb} again"
            )
        if self._partial.exists() or self.target.exists():
            self.done, self.skipped = done, skipped

    def _again(self) -> str:
        return f"remove {self._folder} and {self.words.verb} again"


@contextmanager
def held(folder: Path, verb: str) -> Iterator[None]:
    """Holds a folder against a second process that would write to it.

    Raises:
        DataError: There is one.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise DataError(f"{folder}: another {verb} is writing to it; wait for its end") from error
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # for the worker processes too, which inherited it
        os.close(handle)


def describe_source(data: ImageData) -> dict[str, Any]:
    """What tells images from others: their files by name, labels and classes; not the files' contents."""
    labels = b"" if data.labels is None else data.labels.numpy().tobytes() + json.dumps(data.class_names).encode()
    source: dict[str, Any] = {"images": len(data), "channels": data.channels, "labels": digest(labels)}
    if not isinstance(data, FolderData):
        return {"type": type(data).__name__, **source, "mean": list(data.mean)}
    names = "\0".join(data.path(index).removeprefix(data.root) for index in range(len(data)))
    return {"folder": os.path.realpath(data.root), **source, "names": digest(os.fsencode(names))}


def digest(content: bytes) -> str:
    """A short fingerprint."""
    return hashlib.sha256(content).hexdigest()[:16]


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
