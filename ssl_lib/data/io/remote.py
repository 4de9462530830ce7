"""Remote files on web servers and object stores, read in byte ranges with fsspec; needs the extra `remote`."""

from __future__ import annotations

import functools
import importlib
import io
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ssl_lib.errors import ConfigError, DataError
from ssl_lib.utils.optional import missing_package

__all__ = ["describe", "is_remote", "open_ranges", "read_range"]

T = TypeVar("T")

_PACKAGE, _OLDEST = "fsspec[http]", (2025, 5)  # an older fsspec is not replaced by a plain `pip install`
_BLOCK = 64 * 1024  # bytes per request of a buffered reader; their transfer takes less time than the request
_WAITS = (0.5, 2.0, 8.0)  # seconds before the second, third and fourth attempt
_VERSIONS = ("etag", "generation", "last-modified", "last_modified", "lastmodified", "mtime")


def is_remote(url: str) -> bool:
    """Whether this is a URL, such as https://..., s3://... or gs://..., and not a path."""
    return "://" in url


def describe(url: str) -> tuple[int, str]:
    """Requests the size and the version of a file. The version is its ETag or time, or "" if the server sends neither.

    Raises:
        DataError: The file does not exist, the server does not send its size, or does not answer.
        ConfigError: A package for such URLs is missing.
    """
    file_system, path = _located(url)
    info: dict[str, Any] = _retried(url, lambda: file_system.info(path))
    if info.get("size") is None:
        raise DataError(f"{url}: the server does not send the size of the file; serve it as a static file")
    versions = sorted(f"{key}={value}" for key, value in info.items() if key.lower() in _VERSIONS)
    return int(info["size"]), " ".join([f"size={info['size']}", *versions]) if versions else ""


def open_ranges(url: str, size: int) -> io.BufferedReader:
    """Opens a remote file of this size for seeking and buffered reading.

    Reading raises the same errors as `read_range`.

    Raises:
        DataError: The server does not support byte ranges.
    """
    if url.startswith("http") and not _serves_ranges(url, size):
        raise DataError(
            f"{url}: the server does not support byte ranges; use one that does, such as nginx, Apache or an object "
            "store"
        )
    return io.BufferedReader(_Ranges(url, size), _BLOCK)


def read_range(url: str, offset: int, size: int, name: str | None = None) -> bytes:
    """Reads `size` bytes, starting at `offset`. Temporary errors are retried for about ten seconds.

    Args:
        url: The file.
        offset: Index of the first byte.
        size: Number of bytes.
        name: Name in error messages; None is the URL.

    Raises:
        DataError: The bytes cannot be read, or the file is too short.
    """
    file_system, path = _located(url)

    def read() -> bytes:
        content: bytes = file_system.cat_file(path, start=offset, end=offset + size)
        if len(content) != size:
            raise OSError(f"received {len(content)} bytes instead of {size}")
        return content

    return _retried(name or url, read)


class _Ranges(io.RawIOBase):
    """A remote file as a raw stream, for `io.BufferedReader`."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._position = url, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._position))
        if count:
            buffer[:count] = read_range(self._url, self._position, count)
        self._position += count
        return count


def _located(url: str) -> tuple[Any, str]:
    return _locate(url, os.getpid())


@functools.cache
def _locate(url: str, process: int) -> tuple[Any, str]:
    """Returns the fsspec file system of this process for a URL, and the path in it.

    Connections do not survive a fork, so each process opens its own. The cache of a forked process keeps references to
    the connections of its parent: without them, fsspec would close the connections in the event loop of the parent.
    """
    try:
        file_system, path = _fsspec().core.url_to_fs(url)
    except ImportError as error:  # fsspec is missing, or the package that it needs for this protocol
        package = getattr(error.__cause__, "name", None)
        if package and not url.startswith("http"):
            raise ConfigError(f"{url}: {error}: pip install {package}") from error
        requirement = f"{_PACKAGE}>={'.'.join(map(str, _OLDEST))}"
        raise ConfigError(f"{url}: {error}; a URL {missing_package(requirement)}") from error
    except ValueError as error:
        raise ConfigError(f"{url}: {error}") from error
    return file_system, path


def _fsspec() -> Any:
    fsspec: Any = importlib.import_module("fsspec")
    if tuple(map(int, fsspec.__version__.split(".")[:2])) < _OLDEST:
        raise ImportError(f"fsspec {fsspec.__version__} would hang in worker processes")
    return fsspec


def _serves_ranges(url: str, size: int) -> bool:
    """Reads one byte in the middle with an open fsspec file, which fails early if the server sends the whole file."""
    file_system, path = _located(url)

    def read() -> bool:
        with file_system.open(path, size=size, block_size=1, cache_type="none") as file:
            file.seek(size // 2)
            try:
                file.read(1)
            except ValueError:
                return False
        return True

    return _retried(url, read)


def _retried(name: str, action: Callable[[], T]) -> T:
    """Calls `action`, and retries it after a temporary error."""
    for wait in (*_WAITS, None):
        try:
            return action()
        except Exception as error:  # many types: from fsspec, aiohttp and other packages
            reason, permanent = _classify(error, name)
            if wait is None or permanent:
                raise DataError(f"{name}: {reason}") from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _classify(error: BaseException, name: str) -> tuple[str, bool]:
    """Returns the text of an error, and whether it is permanent."""
    if isinstance(error, FileNotFoundError) and error.__cause__ and name.startswith("http"):
        error = error.__cause__  # fsspec reports every failed request for the file info as a missing file
    status = getattr(error, "status", None)  # of an HTTP response
    if status == 404 or isinstance(error, FileNotFoundError):
        return "no such file", True
    detail = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(status, int):
        return f"cannot be read ({detail})", 400 <= status < 500 and status not in (408, 429)
    return f"cannot be read ({detail})", isinstance(error, PermissionError | ValueError)
