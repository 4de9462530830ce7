"""Safe reading of .npy and .npz files: memory-mapped if possible, never unpickled."""

from __future__ import annotations

import io
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from ssl_lib.errors import DataError

__all__ = ["load_image", "read_array", "read_member"]

_READ_ERRORS = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def read_array(path: str | Path, key: str) -> npt.NDArray[Any]:
    """Reads the array of a .npy, or the member `key` of a .npz.

    Raises:
        DataError: The file or member is missing, damaged, or pickled.
    """
    if Path(path).suffix.lower() != ".npy":
        array = read_member(path, key)
        if array is None:
            raise DataError(f"{path}: contains no array named {key!r}; save it with np.savez(path, {key}=...)")
        return array
    try:
        return _mapped(_file(path), 0)
    except _READ_ERRORS as error:
        raise DataError(f"{path}: not a plain array that can be read safely ({error})") from error


def read_member(path: str | Path, key: str) -> npt.NDArray[Any] | None:
    """Reads the member `key` of a .npz; None if it does not exist, or if the file is a .npy.

    Raises:
        DataError: The file is missing, damaged, pickled, or of another type.
    """
    path = _file(path)
    if path.suffix.lower() not in (".npz", ".npy"):
        raise DataError(f"{path}: not a .npy or .npz file")
    try:
        return _npz_member(path, key) if path.suffix.lower() == ".npz" else None
    except _READ_ERRORS as error:
        raise DataError(f"{path}: not a plain array that can be read safely ({error})") from error


def load_image(source: str | Path | bytes) -> npt.NDArray[Any]:
    """Reads the only array of a .npy or .npz, or of its content, or the member `image` of a .npz.

    Raises:
        DataError: The file is missing, damaged or pickled.
        ValueError: The content is damaged or pickled, or there are several arrays, none of which is named `image`.
    """
    if isinstance(source, bytes):
        loaded = np.load(io.BytesIO(source), allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return np.asarray(loaded)
        with loaded:
            return np.asarray(loaded[_only(loaded.files)])
    if Path(source).suffix.lower() == ".npy":
        return read_array(source, "image")
    with zipfile.ZipFile(source) as archive:
        name = _only([member.removesuffix(".npy") for member in archive.namelist()])
    return read_array(source, name)


def _only(names: Sequence[str]) -> str:
    if len(names) != 1 and "image" not in names:
        raise ValueError(f"expected one array, or one named 'image', found {', '.join(sorted(names)) or 'none'}")
    return "image" if "image" in names else names[0]


def _file(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"{path.absolute()}: no such file (expected a .npy or .npz)")
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
        file.seek(
            member.header_offset + 26
        )  # local file header: 30 bytes; the last 4 are the lengths of name and extra
        name_length, extra_length = np.frombuffer(file.read(4), "<u2").tolist()
        return _mapped(path, file.seek(name_length + extra_length, os.SEEK_CUR))


def _mapped(path: Path, start: int) -> npt.NDArray[Any]:
    """Returns the array whose .npy content starts at an offset of a file."""
    with path.open("rb") as file:
        file.seek(start)
        shape, order, dtype = _header(file, path.stat().st_size - start)
        return np.memmap(path, dtype, "r", file.tell(), shape, order) if math.prod(shape) else np.empty(shape, dtype)


def _header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any]]:
    """Reads a .npy header. Raises a ValueError if the array does not fit in `size` bytes, header included."""
    start = file.tell()
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, is_fortran, dtype = read(file)
    except (SyntaxError, RecursionError, MemoryError, OverflowError, TypeError, tokenize.TokenError) as error:
        raise ValueError("its header does not describe an array") from error
    if dtype.hasobject:
        raise ValueError("it contains Python objects")
    needed, available = math.prod(shape) * dtype.itemsize, size - (file.tell() - start)
    if min(shape, default=0) < 0 or needed > available:
        raise ValueError(f"its header says {shape} of {dtype}, {needed} bytes, but there are only {available}")
    return shape, "F" if is_fortran else "C", dtype
