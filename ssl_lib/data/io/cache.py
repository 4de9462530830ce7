"""Cache files for arrays that are expensive to compute, in the cache folder of the user."""

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
    """Returns the cache file of a key, in `$XDG_CACHE_HOME/ssl_lib` (default: ~/.cache/ssl_lib).

    Returns None if the variable is not set and the user has no home folder.
    """
    configured = os.environ.get("XDG_CACHE_HOME", "")
    try:
        caches = Path(configured) if os.path.isabs(configured) else Path.home() / ".cache"
    except RuntimeError:
        return None
    digest = hashlib.sha256(os.fsencode("\0".join(key))).hexdigest()
    return caches / "ssl_lib" / f"{kind}-{digest[:32]}.npz"


def alone(cache: Path | None) -> AbstractContextManager[None]:
    """Locks a cache file, so that one process writes it while the others wait and then read it."""
    return locked(cache.with_suffix(".lock"), optional=True) if cache else contextlib.nullcontext()


def read_array(cache: Path | None) -> Array | None:
    """Reads the array in a cache file; None if the file does not exist or is damaged."""
    if cache is None:
        return None
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            array: Array = arrays["arr_0"]
            return array
    except Exception:  # zipfile and numpy raise many types for damaged files
        return None


def write_array(cache: Path | None, array: Array) -> None:
    """Writes a cache file atomically. Does nothing if the file cannot be written."""
    if cache is None:
        return
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=cache.parent, prefix=cache.stem, suffix=".tmp", delete=False) as file:
            try:
                np.savez(file, array)  # .npz files have checksums
                file.close()
                os.replace(file.name, cache)
            finally:
                Path(file.name).unlink(missing_ok=True)
