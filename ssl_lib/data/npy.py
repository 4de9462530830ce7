"""Arrays of .npy and .npz files, memory-mapped where they can be, never unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_lib.errors import DataError

__all__ = ["read_array", "read_member"]

_READ_ERRORS = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def read_array(path: str | Path, key: str) -> npt.NDArray[Any]:
    """The array of a .npy, or a member of a .npz that must be there."""
    if Path(path).suffix != ".npy":
        array = read_member(path, key)
        if array is None:
            raise DataError(f"{path}: no array named {key!r} in it; save it with np.savez(path, {key}=...)")
        return array
    try:
        return np.lib.format.open_memmap(_file(path), mode="r")
    except _READ_ERRORS as error:
        raise DataError(f"{path}: not a plain array that can be read safely ({error})") from error


def read_member(path: str | Path, key: str) -> npt.NDArray[Any] | None:
    """A member of a .npz; None where there is none of that name, or the file is a .npy."""
    path = _file(path)
    if path.suffix not in (".npz", ".npy"):
        raise DataError(f"{path}: not a .npy or .npz file")
    try:
        return _npz_member(path, key) if path.suffix == ".npz" else None
    except _READ_ERRORS as error:
        raise DataError(f"{path}: not a plain array that can be read safely ({error})") from error


def _file(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"{path.absolute()}: no such file (a .npy or .npz was looked for)")
    return path


def _npz_member(path: Path, key: str) -> npt.NDArray[Any] | None:
    with zipfile.ZipFile(path) as archive:
        if f"{key}.npy" not in archive.namelist():
            return None
        member = archive.getinfo(f"{key}.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        with np.load(path, allow_pickle=False) as arrays_of_file:
            return np.asarray(arrays_of_file[key])
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)  # a local file header: 30 bytes, the last 4 the lengths of what follows
        name_length, extra_length = np.frombuffer(file.read(4), "<u2").tolist()
        file.seek(name_length + extra_length, 1)
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = header(file)
        if dtype.hasobject:
            raise ValueError(f"{key} holds Python objects")
        if not math.prod(shape):
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran_order else "C")
