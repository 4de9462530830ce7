"""Arrays that are costly to make again, kept in the user's cache folder; to lose them costs time alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ssl_lib.utils.files import locked

__all__ = ["Array", "alone", "cache_file", "read_array", "write_array"]

Array: TypeAlias = npt.NDArray[Any]


def cache_file(kind: str, *key: str) -> Path | None:
    """The file in `$XDG_CACHE_HOME/ssl_lib` (default: ~/.cache/ssl_lib) for a key; None where the user has no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        caches = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError:
        return None
    digest = hashlib.sha256(os.fsencode("\0".join(key))).hexdigest()
    return caches / "ssl_lib" / f"{kind}-{digest[:32]}.npz"


def alone(cache: Path | None) -> AbstractContextManager[None]:
    """Lets one process at a time make a cache file, so that the others wait and read it."""
    return locked(cache.with_suffix(".lock")) if cache else contextlib.nullcontext()


def read_array(cache: Path | None) -> Array | None:
    """The array in a cache file; None where there is no file or it is damaged."""
    if cache is None:
        return None
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            array: Array = arrays["arr_0"]
            return array
    except Exception:  # of many types: zipfile's and numpy's for damaged files
        return None


def write_array(cache: Path | None, array: Array) -> None:
    """Writes a cache file, whole or not at all; a cache that cannot be written is done without."""
    if cache is None:
        return
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=cache.parent, prefix=cache.stem, suffix=".tmp", delete=False) as file:
            try:
                np.savez(file, array)  # which has checksums
                file.close()
                os.replace(file.name, cache)
            finally:
                Path(file.name).unlink(missing_ok=True)
