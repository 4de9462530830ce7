"""Reads and writes embedding tables as .npz, or as .parquet (needs the extra `parquet`)."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ssl_lib.data.io.npy import read_array, read_member
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.utils.files import whole_file
from ssl_lib.utils.optional import needs

__all__ = ["Columns", "Storage", "storage_of"]

_ROWS = 8192  # rows per Parquet row group
_TEXTS = {
    "classes": 1,
    "root": 0,
    "skipped": 1,
    "made_of": 0,
    "about": 1,
}  # string arrays and their number of dimensions


class Columns(NamedTuple):
    """The contents of a file; see `EmbeddingTable`."""

    embeddings: npt.NDArray[Any]
    paths: npt.NDArray[np.str_]
    labels: npt.NDArray[Any] | None
    classes: tuple[str, ...]
    root: str | None
    skipped: tuple[str, ...]
    made_of: Mapping[str, Any]


class Storage(NamedTuple):
    """Reader and writer of a file format."""

    read: Callable[[Path], Columns]
    write: Callable[[Path, Columns], None]


def storage_of(path: Path) -> Storage:
    """Selects the file format by suffix.

    Raises:
        ConfigError: The suffix is not supported, or pyarrow is not installed.
    """
    if path.suffix not in _STORAGES:
        raise ConfigError(f"{path} must end in {' or '.join(_STORAGES)}")
    if path.suffix == ".parquet":
        _pyarrow()
    return _STORAGES[path.suffix]


def _read_npz(path: Path) -> Columns:
    embeddings, paths = (read_array(path, key) for key in ("embeddings", "paths"))
    read = {key: read_member(path, key) for key in _TEXTS}
    texts = {key: array for key, array in read.items() if array is not None}
    for key, array in texts.items():
        if array.dtype.kind != "U" or array.ndim != _TEXTS[key]:
            expected = "strings (N,)" if _TEXTS[key] else "a single string"
            raise DataError(f"{path}: {key} must be {expected}, got {array.dtype} {array.shape}")
    try:
        origin = _origin(**{key: array.tolist() for key, array in texts.items()})
        return Columns(embeddings, paths, read_member(path, "labels"), *origin)
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a table written by `ssl-lib embed` ({error})") from error


def _write_npz(path: Path, columns: Columns) -> None:
    arrays: dict[str, Any] = {
        "embeddings": columns.embeddings,  # first in the file, so that they are aligned for memory mapping
        "paths": columns.paths,
        "classes": np.array(columns.classes, np.str_),
        "skipped": np.array(columns.skipped, np.str_),
        "made_of": np.array(json.dumps(columns.made_of)),
    }
    for key in ("labels", "root"):
        if (value := getattr(columns, key)) is not None:
            arrays[key] = np.array(value)
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _read_parquet(path: Path) -> Columns:
    pa, pq = _pyarrow()
    try:
        with pq.ParquetFile(path) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
            metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
            known = {key: metadata[key] for key in ("root", "made_of", "about") if key in metadata}
            lists = {key: json.loads(metadata[key]) for key in ("classes", "skipped") if key in metadata}
            embeddings = np.empty((count, schema.field("embedding").type.list_size), np.float32)
            paths, labels, done = [], [], 0
            for batch in file.iter_batches(_ROWS):
                block = batch.column("embedding").flatten().to_numpy().reshape(-1, embeddings.shape[1])
                embeddings[done : done + len(block)] = block
                paths += batch.column("path").to_pylist()
                labels.append(batch.column("label"))
                done += len(block)
            if not count == done == len(paths):
                raise ValueError(f"it contains {done} of {count} rows")
            label = pa.chunked_array(labels, pa.int64())
            values = None if label.null_count else label.to_numpy()
            return Columns(embeddings, np.array(paths, np.str_), values, *_origin(**known, **lists))
    except (pa.ArrowException, KeyError, AttributeError, ValueError, TypeError, OSError, MemoryError) as error:
        raise DataError(f"{path}: not a readable table written by `ssl-lib embed` ({error})") from error


def _write_parquet(path: Path, columns: Columns) -> None:
    try:
        _write_row_groups(path, columns)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{error.object!r} is not valid UTF-8, which .parquet requires for paths: write a .npz file instead"
        ) from error


def _write_row_groups(path: Path, columns: Columns) -> None:
    pa, pq = _pyarrow()
    count, width = columns.embeddings.shape
    embedding = pa.list_(pa.float32(), width)
    metadata = {key: json.dumps(getattr(columns, key)) for key in ("classes", "skipped", "made_of")}
    metadata |= {} if columns.root is None else {"root": columns.root}
    schema = pa.schema([("path", pa.string()), ("label", pa.int64()), ("embedding", embedding)], metadata)
    with whole_file(path) as partial, pq.ParquetWriter(partial, schema, use_dictionary=False) as writer:
        for part in (slice(start, start + _ROWS) for start in range(0, count, _ROWS)):
            paths = pa.array(columns.paths[part].tolist(), pa.string())
            labels = pa.nulls(len(paths), pa.int64()) if columns.labels is None else pa.array(columns.labels[part])
            values = pa.array(np.ascontiguousarray(columns.embeddings[part]).reshape(-1))
            arrays = [paths, labels, pa.FixedSizeListArray.from_arrays(values, width)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _origin(
    classes: Sequence[str] = (),
    root: str | None = None,
    skipped: Sequence[str] = (),
    made_of: str = "{}",
    about: str | list[str] | None = None,
) -> tuple[tuple[str, ...], str | None, tuple[str, ...], Mapping[str, Any]]:
    """Parses classes, root, skipped and made_of (JSON). Older files hold the last three as JSON in `about`."""
    found = {"root": root, "skipped": skipped, "made_of": json.loads(made_of)}
    if about is not None:
        found = {**found, **json.loads(about if isinstance(about, str) else about[0])}
    if not isinstance(found["made_of"], dict) or not isinstance(found["root"], str | None):
        raise ValueError("made_of must be a mapping and root a string")
    return tuple(map(str, classes)), found["root"], tuple(map(str, found["skipped"])), found["made_of"]


def _pyarrow() -> tuple[Any, Any]:
    """Imports `pyarrow` and `pyarrow.parquet`, which have no type hints."""
    with needs("pyarrow", "a .parquet file, unlike a .npz,"):
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")


_STORAGES = {".npz": Storage(_read_npz, _write_npz), ".parquet": Storage(_read_parquet, _write_parquet)}
