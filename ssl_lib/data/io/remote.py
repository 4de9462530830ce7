"""Files on web servers and in object stores, read by byte ranges through fsspec; needs the extra `remote`."""

from __future__ import annotations

import functools
import importlib
import io
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ssl_lib.errors import ConfigError, DataError

__all__ = ["describe", "is_remote", "open_ranges", "read_range"]

T = TypeVar("T")

_CURE = 'pip install "fsspec[http]>=2025.5" (the extra `remote`)'
_BLOCK = 64 * 1024  # bytes read at once on the way through a file: they take less time than a request does
_WAITS = (0.5, 2.0, 8.0)  # seconds before the second, third and fourth try
_VERSIONS = ("etag", "generation", "last-modified", "last_modified", "lastmodified", "mtime")


def is_remote(url: str) -> bool:
    """Whether this is no path but a URL, such as https://..., s3://... or gs://..."""
    return "://" in url


def describe(url: str) -> tuple[int, str]:
    """Asks for the size of a file and for what changes when it does: its ETag or its time, "" where neither is told.

    Raises:
        DataError: There is no such file, its size is not told, or the server gives no answer.
        ConfigError: A package that reads such files is missing.
    """
    file_system, path = _located(url)
    info: dict[str, Any] = _persist(url, lambda: file_system.info(path))
    if info.get("size") is None:
        raise DataError(f"{url}: the server does not tell the file's size; serve it as a plain file")
    versions = sorted(f"{key}={value}" for key, value in info.items() if key.lower() in _VERSIONS)
    return int(info["size"]), " ".join([f"size={info['size']}", *versions]) if versions else ""


def open_ranges(url: str, size: int) -> io.BufferedReader:
    """Opens a file of this size to seek and read in, block by block.

    Raises:
        DataError: The server hands out whole files only. So does reading, as `read_range` does.
    """
    if url.startswith("http") and not _serves_ranges(url, size):
        raise DataError(
            f"{url}: the server hands out whole files only; take one that serves byte ranges, as nginx, Apache and "
            "object stores do"
        )
    return io.BufferedReader(_Ranges(url, size), _BLOCK)


def read_range(url: str, offset: int, size: int, name: str | None = None) -> bytes:
    """Reads `size` bytes from `offset` on; a hiccup of the network is waited out, for some ten seconds.

    Args:
        url: The file.
        offset: Its first byte to read.
        size: Number of bytes.
        name: What to call them in a message, instead of the URL.

    Raises:
        DataError: They cannot be read, or are not as many.
    """
    file_system, path = _located(url)

    def read() -> bytes:
        content: bytes = file_system.cat_file(path, start=offset, end=offset + size)
        if len(content) != size:
            raise OSError(f"{len(content)} bytes came where {size} were asked for")
        return content

    return _persist(name or url, read)


class _Ranges(io.RawIOBase):
    """A remote file as Python's own buffered reader wants it."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._place = url, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._place))
        if count:
            buffer[:count] = read_range(self._url, self._place, count)
        self._place += count
        return count


def _located(url: str) -> tuple[Any, str]:
    return _locate(url, os.getpid())


@functools.cache
def _locate(url: str, process: int) -> tuple[Any, str]:
    """A process's own file system for a URL, and the path in it.

    Connections do not survive a fork, so that each process makes its own. A forked one still keeps those of its parent,
    untouched: to close them, as fsspec does where none refers to them, would reach into the parent's event loop.
    """
    try:
        file_system, path = _fsspec().core.url_to_fs(url)
    except ImportError as error:  # of fsspec or, told by its message, of the package that it needs for such a URL
        package = getattr(error.__cause__, "name", None)
        cure = f"pip install {package}" if package and not url.startswith("http") else _CURE
        raise ConfigError(f"{url}: {error}: {cure}") from error
    except ValueError as error:
        raise ConfigError(f"{url}: {error}") from error
    return file_system, path


def _fsspec() -> Any:
    fsspec: Any = importlib.import_module("fsspec")
    if tuple(map(int, fsspec.__version__.split(".")[:2])) < (2025, 5):
        raise ImportError(f"fsspec {fsspec.__version__} would hang in worker processes")
    return fsspec


def _serves_ranges(url: str, size: int) -> bool:
    """Reads a byte in the middle as fsspec reads an open file: it hangs up if the server begins to send the whole."""
    file_system, path = _located(url)

    def read() -> bool:
        with file_system.open(path, size=size, block_size=1, cache_type="none") as file:
            file.seek(size // 2)
            try:
                file.read(1)
            except ValueError:
                return False
        return True

    return _persist(url, read)


def _persist(name: str, act: Callable[[], T]) -> T:
    """Tries again, after a while, what failed for a reason that may pass."""
    for wait in (*_WAITS, None):
        try:
            return act()
        except Exception as error:  # of many types: fsspec's, aiohttp's, those of other packages
            reason, lasts = _judge(error, name)
            if wait is None or lasts:
                raise DataError(f"{name}: {reason}") from error
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _judge(error: BaseException, name: str) -> tuple[str, bool]:
    """What to say of an error, and whether it will last."""
    if isinstance(error, FileNotFoundError) and error.__cause__ and name.startswith("http"):
        error = error.__cause__  # fsspec calls whatever keeps a web server from describing a file a missing file
    status = getattr(error, "status", None)  # of an answer by HTTP
    if status == 404 or isinstance(error, FileNotFoundError):
        return "no such file", True
    detail = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(status, int):
        return f"cannot be read ({detail})", 400 <= status < 500 and status not in (408, 429)
    return f"cannot be read ({detail})", isinstance(error, PermissionError | ValueError)
