"""Reads and writes the attributes of an `EmbeddingTable` as .npz, or as .parquet (needs the extra `parquet`)."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ssl_lib.data.io.npy import read_array, read_member
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.utils.files import whole_file
from ssl_lib.utils.optional import needs
from ssl_lib.utils.printable import visible

__all__ = ["SUFFIXES", "storage_of"]

Reader: TypeAlias = Callable[[Path], dict[str, Any]]
Writer: TypeAlias = Callable[[Path, Mapping[str, Any]], None]

_ROWS = 8192  # rows per Parquet row group
_TEXTS = {"classes": 1, "root": 0, "skipped": 1, "made_of": 0}  # string arrays and their number of dimensions


def storage_of(path: Path) -> tuple[Reader, Writer]:
    """Returns the reader and the writer of a file format, selected by suffix.

    Raises:
        ConfigError: The suffix is not supported, or pyarrow is not installed.
    """
    if path.suffix not in _STORAGES:
        raise ConfigError(f"{path} must end in {' or '.join(_STORAGES)}")
    if path.suffix == ".parquet":
        _pyarrow()
    return _STORAGES[path.suffix]


def _read_npz(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = {key: read_array(path, key) for key in ("embeddings", "paths")}
    table["labels"] = read_member(path, "labels")
    for key, dimensions in _TEXTS.items():
        if (array := read_member(path, key)) is None:
            continue
        if array.dtype.kind != "U" or array.ndim != dimensions:
            expected = "strings (N,)" if dimensions else "a single string"
            raise DataError(f"{path}: {key} must be {expected}, got {array.dtype} {array.shape}")
        table[key] = array.tolist()
    return {**table, "made_of": json.loads(table.get("made_of", "{}"))}


def _write_npz(path: Path, table: Mapping[str, Any]) -> None:
    arrays: dict[str, Any] = {
        "embeddings": table["embeddings"],  # first in the file, so that they are aligned for memory mapping
        "paths": table["paths"],
        "classes": np.array(table["classes"], np.str_),
        "skipped": np.array(table["skipped"], np.str_),
        "made_of": np.array(json.dumps(table["made_of"])),
    }
    arrays |= {key: np.array(table[key]) for key in ("labels", "root") if table[key] is not None}
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _read_parquet(path: Path) -> dict[str, Any]:
    pa, pq = _pyarrow()
    try:
        with pq.ParquetFile(path) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
            metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
            table = {key: json.loads(metadata[key]) for key in ("classes", "skipped", "made_of") if key in metadata}
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
            table |= {"embeddings": embeddings, "paths": np.array(paths, np.str_), "root": metadata.get("root")}
            return {**table, "labels": None if label.null_count else label.to_numpy()}
    except (pa.ArrowException, KeyError, AttributeError, OSError, MemoryError) as error:
        raise ValueError(str(error)) from error


def _write_parquet(path: Path, table: Mapping[str, Any]) -> None:
    try:
        _write_row_groups(path, table)
    except UnicodeEncodeError as error:
        raise DataError(
            f"'{visible(error.object)}' is not valid UTF-8, which .parquet requires for paths: write a .npz file"
        ) from error


def _write_row_groups(path: Path, table: Mapping[str, Any]) -> None:
    pa, pq = _pyarrow()
    count, width = table["embeddings"].shape
    embedding = pa.list_(pa.float32(), width)
    metadata = {key: json.dumps(table[key]) for key in ("classes", "skipped", "made_of")}
    metadata |= {} if table["root"] is None else {"root": table["root"]}
    schema = pa.schema([("path", pa.string()), ("label", pa.int64()), ("embedding", embedding)], metadata)
    with whole_file(path) as partial, pq.ParquetWriter(partial, schema, use_dictionary=False) as writer:
        for part in (slice(start, start + _ROWS) for start in range(0, count, _ROWS)):
            paths = pa.array(table["paths"][part].tolist(), pa.string())
            labels = pa.nulls(len(paths), pa.int64()) if table["labels"] is None else pa.array(table["labels"][part])
            values = pa.array(np.ascontiguousarray(table["embeddings"][part]).reshape(-1))
            arrays = [paths, labels, pa.FixedSizeListArray.from_arrays(values, width)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _pyarrow() -> tuple[Any, Any]:
    """Imports `pyarrow` and `pyarrow.parquet`, which have no type hints."""
    with needs("pyarrow", "a .parquet file, unlike a .npz,"):
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")


_STORAGES = {".npz": (_read_npz, _write_npz), ".parquet": (_read_parquet, _write_parquet)}

SUFFIXES = tuple(_STORAGES)
"""The suffixes of the files of tables."""
