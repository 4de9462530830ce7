"""Tables of embeddings as files: .npz, and .parquet with the extra `parquet`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ssl_lib.data.npy import read_array, read_member
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.extras import needs
from ssl_lib.files import whole_file

__all__ = ["Columns", "Storage", "storage_of"]

_ROWS = 8192  # of a row group


class Columns(NamedTuple):
    """What a file holds; `about` is JSON."""

    embeddings: npt.NDArray[Any]
    paths: npt.NDArray[np.str_]
    labels: npt.NDArray[Any] | None
    classes: tuple[str, ...]
    about: str


class Storage(NamedTuple):
    """How a kind of file is read and written."""

    read: Callable[[Path], Columns]
    write: Callable[[Path, Columns], None]


def storage_of(path: Path) -> Storage:
    """The storage that a file's suffix means.

    Raises:
        ConfigError: It means none, or pyarrow is missing.
    """
    if path.suffix not in _STORAGES:
        raise ConfigError(f"{path} must end in {' or '.join(_STORAGES)}")
    if path.suffix == ".parquet":
        _pyarrow()
    return _STORAGES[path.suffix]


def _read_npz(path: Path) -> Columns:
    embeddings, paths, classes, about = (read_array(path, key) for key in ("embeddings", "paths", "classes", "about"))
    if about.dtype.kind != "U" or about.shape != (1,) or classes.dtype.kind != "U" or classes.ndim != 1:
        raise DataError(f"{path}: not a table of `ssl-lib embed` (its classes and origin are no texts)")
    return Columns(embeddings, paths, read_member(path, "labels"), tuple(classes.tolist()), str(about[0]))


def _write_npz(path: Path, columns: Columns) -> None:
    arrays: dict[str, Any] = {
        "embeddings": columns.embeddings,  # first in the file, where they are aligned for being mapped
        "paths": columns.paths,
        "classes": np.array(columns.classes, np.str_),
        "about": np.array([columns.about]),
    }
    if columns.labels is not None:
        arrays["labels"] = columns.labels
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _read_parquet(path: Path) -> Columns:
    pa, pq = _pyarrow()
    try:
        with pq.ParquetFile(path) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
            metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
            classes = tuple(map(str, json.loads(metadata["classes"])))
            embeddings = np.empty((count, schema.field("embedding").type.list_size), np.float32)
            paths, labels, done = [], [], 0
            for batch in file.iter_batches(_ROWS):
                block = batch.column("embedding").flatten().to_numpy().reshape(-1, embeddings.shape[1])
                embeddings[done : done + len(block)] = block
                paths += batch.column("path").to_pylist()
                labels.append(batch.column("label"))
                done += len(block)
            if not count == done == len(paths):
                raise ValueError(f"{done} of {count} rows in it")
            label = pa.chunked_array(labels, pa.int64())
            values = None if label.null_count else label.to_numpy()
            return Columns(embeddings, np.array(paths, np.str_), values, classes, metadata["about"])
    except (pa.ArrowException, KeyError, AttributeError, ValueError, TypeError, OSError, MemoryError) as error:
        raise DataError(f"{path}: not a table of `ssl-lib embed` that can be read ({error})") from error


def _write_parquet(path: Path, columns: Columns) -> None:
    pa, pq = _pyarrow()
    count, width = columns.embeddings.shape
    embedding = pa.list_(pa.float32(), width)
    metadata = {"classes": json.dumps(columns.classes), "about": columns.about}
    schema = pa.schema([("path", pa.string()), ("label", pa.int64()), ("embedding", embedding)], metadata)
    with whole_file(path) as partial, pq.ParquetWriter(partial, schema, use_dictionary=False) as writer:
        for part in (slice(start, start + _ROWS) for start in range(0, count, _ROWS)):
            paths = columns.paths[part].tolist()
            labels = pa.nulls(len(paths), pa.int64()) if columns.labels is None else pa.array(columns.labels[part])
            values = pa.array(np.ascontiguousarray(columns.embeddings[part]).reshape(-1))
            try:
                texts = pa.array(paths, pa.string())
            except UnicodeEncodeError as error:
                raise DataError(f"{error.object!r} is no UTF-8, as .parquet needs paths to be: write a .npz") from error
            arrays = [texts, labels, pa.FixedSizeListArray.from_arrays(values, width)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`, which have no type hints."""
    with needs("pyarrow", "a .parquet file, unlike a .npz,"):
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")


_STORAGES = {".npz": Storage(_read_npz, _write_npz), ".parquet": Storage(_read_parquet, _write_parquet)}
