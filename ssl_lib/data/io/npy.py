"""Arrays of .npy and .npz files, memory-mapped where they can be, never unpickled."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Literal

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
        return _mapped(_file(path), 0)
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
            with archive.open(member) as stream:
                shape, order, dtype = _header(stream, member.file_size)
                content = stream.read(math.prod(shape) * dtype.itemsize)
            return np.frombuffer(content, dtype).reshape(shape, order=order)
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)  # a local file header: 30 bytes, the last 4 the lengths of what follows
        name_length, extra_length = np.frombuffer(file.read(4), "<u2").tolist()
        return _mapped(path, file.seek(name_length + extra_length, os.SEEK_CUR))


def _mapped(path: Path, start: int) -> npt.NDArray[Any]:
    """The array whose .npy content begins at a place of a file."""
    with path.open("rb") as file:
        file.seek(start)
        shape, order, dtype = _header(file, path.stat().st_size - start)
        return np.memmap(path, dtype, "r", file.tell(), shape, order) if math.prod(shape) else np.empty(shape, dtype)


def _header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any]]:
    """Reads a .npy header, and refuses one that claims more than the `size` bytes of the whole can hold."""
    start = file.tell()
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, is_fortran, dtype = read(file)
    except (SyntaxError, RecursionError, MemoryError, OverflowError, TypeError, tokenize.TokenError) as error:
        raise ValueError("its header is no plain description of an array") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    needed, held = math.prod(shape) * dtype.itemsize, size - (file.tell() - start)
    if min(shape, default=0) < 0 or needed > held:
        raise ValueError(f"its header says {shape} of {dtype}, {needed} bytes, where there are {held}")
    return shape, "F" if is_fortran else "C", dtype
