"""Files that are whole or not there at all, whenever the process or the machine stops."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ssl_lib.errors import ConfigError

__all__ = ["append_text", "check_writable", "link_or_copy", "locked", "whole_file", "write_json", "write_text"]


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a place beside `path` to write to, then flushes the file to the disk and renames it to `path`.

    Until the rename `path` is what it was; where the writing fails, nothing is left behind. The folder is made if it is
    missing, and flushed too, so that the name survives a power cut as well.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with _named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)  # not written over: what a killed process left may be a link to another
            yield partial
            with partial.open("r+b") as file:
                os.fsync(file.fileno())
            partial.replace(path)
            _flush_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def check_writable(path: Path, example: str) -> None:
    """Refuses, before long work, a file that could not be written after it; leaves nothing behind.

    Args:
        path: The file.
        example: What it could be called, if it is a folder.

    Raises:
        ConfigError: It is a folder, or there can be no file.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give a file, such as {path / example}")
    try:
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): name another file with --output") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lets one process at a time go on, by a lock file that is left there; all, where locks are not to be had.

    The system holds the lock, not the file, and gives it back when a process ends, in whatever way.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(path.open("w")), fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Writes plain values as a JSON file, whole."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def append_text(path: Path, text: str) -> None:
    """Adds to the end of a text file."""
    with _named(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


def link_or_copy(source: Path, path: Path) -> None:
    """Makes `path` the same file as `source`; a copy of it where the file system has no links."""
    with whole_file(path) as partial:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says which file it was that could not be written to its end, of which the system knows the number alone."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
