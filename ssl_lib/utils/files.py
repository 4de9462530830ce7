"""Atomic writes, lock files, and safe reading of files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from ssl_lib.errors import ConfigError, DataError

__all__ = [
    "append_text",
    "check_regular",
    "check_writable",
    "link_or_copy",
    "locked",
    "parse_json",
    "read_json",
    "whole_file",
    "write_json",
    "write_text",
]

_held: set[filelock.FileLock] = set()
"""The locks that this process holds."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a file next to `path` to write to, then flushes it to the disk and renames it to `path`.

    `path` is unchanged until it is replaced. If writing fails, nothing is left behind. The folder is created if it is
    missing, and flushed too, so that the name also survives a power failure.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with _named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)  # not overwritten: it may be a link that a killed process left
            yield partial
            with partial.open("r+b") as file:
                os.fsync(file.fileno())
            partial.replace(path)
            _flush_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def check_regular(path: str | Path) -> None:
    """Refuses pipes, sockets and devices, which reading could wait for.

    Raises:
        OSError: `path` is missing or not a regular file; a link to a regular file is one.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def check_writable(path: Path, example: str) -> None:
    """Refuses an output file that cannot be written, before long work; leaves nothing behind.

    Args:
        path: The file.
        example: A file name for the message, if `path` is a folder.

    Raises:
        ConfigError: `path` is a folder, or cannot be created.
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
def locked(path: Path, *, wait: bool = True, optional: bool = False) -> Iterator[None]:
    """Holds a lock file, which stays on the disk afterwards.

    The operating system frees the lock when the process ends, in whatever way. Forked processes do not hold it.

    Args:
        path: The lock file; its folder is created.
        wait: Wait until the lock is free.
        optional: Continue without a lock if the folder is not writable or its file system has no locks.

    Raises:
        BlockingIOError: The lock is held, by another process or by this one, and `wait` is False.
        OSError: `path` is a link or not a regular file, or cannot be locked, and `optional` is False.
    """
    lock = filelock.FileLock(path, timeout=-1 if wait else 0)
    try:
        _acquire(lock, path)
    except BlockingIOError:
        raise
    except OSError:
        if not optional:
            raise
    else:
        _held.add(lock)
    try:
        yield
    finally:
        if lock in _held:  # not in a forked process
            _held.remove(lock)
            lock.release()


def _acquire(lock: filelock.BaseFileLock, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if _is_odd(path):
        raise OSError(f"{path} is a link or not a regular file: it is not opened for writing; delete it")
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise BlockingIOError(f"{path} is locked") from error
    except NotImplementedError as error:  # filelock < 4, on file systems without locks
        raise OSError(errno.ENOSYS, "no locks available", str(path)) from error


def parse_json(text: str) -> Any:
    """Parses JSON; None if it is damaged, nested too deeply, or holds numbers too long to convert."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_json(path: Path, how_to_fix: str) -> dict[str, Any]:
    """Reads a JSON file that holds a mapping.

    Args:
        path: The file.
        how_to_fix: What to do if it is damaged, for the message.

    Raises:
        DataError: The file is missing, cannot be read or does not hold a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    content = parse_json(text)
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged: it does not hold a JSON object; {how_to_fix}")
    return content


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Writes plain values to a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def append_text(path: Path, text: str) -> None:
    """Appends to a text file; a link is not followed.

    Raises:
        OSError: `path` is a link, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with _named(path), open(os.open(path, flags, 0o666), "a", encoding="utf-8") as file:
        file.write(text)


def link_or_copy(source: Path, path: Path) -> None:
    """Makes `path` a hard link to `source`, or a copy if the file system has no links."""
    with whole_file(path) as partial:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Adds the file's name to an error that lacks it."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def _is_odd(path: Path) -> bool:
    """Whether a path exists and is a link, a pipe or a device, or has several names."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(found.st_mode) or found.st_nlink > 1


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not supported by every system
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _forget_locks() -> None:
    """Closes the locks that a fork inherited: filelock < 4 leaves them open, beyond the end of a killed parent."""
    for lock in _held:
        descriptor, lock._context.lock_file_fd = lock._context.lock_file_fd, None
        if descriptor is not None:
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
