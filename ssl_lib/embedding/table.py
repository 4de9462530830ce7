"""Embeddings with the names of their images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_lib.embedding.storage import Columns, storage_of
from ssl_lib.errors import DataError

__all__ = ["EmbeddingTable"]


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """A row per image.

    Args:
        embeddings: float32 (N, D).
        paths: (N,), relative to the folder of the images; where they come from no files, their indices.
        labels: Class indices, int64 (N,), or None.
        classes: Names of the classes in the order of their indices; empty where unknown.
        root: The folder that the paths are relative to, where it is known.
        skipped: Paths of the images that could not be read, which have no row.
        made_of: The images, the encoder and the settings, plain values: by them `embed` knows its own table.

    Raises:
        ValueError: The shapes or types do not fit, or a label has no class.
    """

    embeddings: npt.NDArray[np.float32]
    paths: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    root: str | None = None
    skipped: tuple[str, ...] = ()
    made_of: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.embeddings.shape
        if self.embeddings.dtype != np.float32 or len(shape) != 2 or 0 in shape:
            raise ValueError(f"embeddings must be float32 (N, D), not empty, got {self.embeddings.dtype} {shape}")
        if self.paths.dtype.kind != "U" or self.paths.shape != shape[:1]:
            raise ValueError(f"paths must be {shape[0]} texts, got {self.paths.dtype} {self.paths.shape}")
        if self.labels is None:
            return
        if self.labels.dtype != np.int64 or self.labels.shape != shape[:1]:
            raise ValueError(f"labels must be {shape[0]} of int64, got {self.labels.dtype} {self.labels.shape}")
        least, most = int(self.labels.min()), int(self.labels.max())
        if least < 0 or (self.classes and most >= len(self.classes)):
            raise ValueError(f"labels must be in [0, {len(self.classes)}), got {least} to {most}")

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"EmbeddingTable({len(self):,} images x {self.embeddings.shape[1]}, from {self.root or 'no folder'})"

    @classmethod
    def load(cls, path: str | Path) -> EmbeddingTable:
        """Reads a table, without executing anything in it.

        The embeddings of a .npz are memory-mapped, so that a table may be larger than the memory; those of a .parquet
        (which needs the extra `parquet`) are read into it.

        Raises:
            DataError: The file is missing, damaged, pickled, or no table.
            ConfigError: The file has another suffix, or pyarrow is missing.
        """
        path = Path(path).expanduser()
        storage = storage_of(path)
        if not path.is_file():
            raise DataError(f"{path.absolute()}: no such file (a table of `ssl-lib embed` was looked for)")
        columns = storage.read(path)
        try:
            embeddings = np.require(columns.embeddings, np.float32, ["C", "A"])  # as they lie, if embed wrote them
            labels = None if columns.labels is None else columns.labels.astype(np.int64, casting="safe")
            return cls(**{**columns._asdict(), "embeddings": embeddings, "labels": labels})
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: not a table of `ssl-lib embed` ({error})") from error

    def save(self, path: str | Path) -> None:
        """Writes .npz or .parquet, whole or not at all, reading the embeddings in parts.

        A .npz has a key for each attribute, labels and root where there are any; root and made_of, which is JSON, are
        arrays of no dimension: `str(file["root"])`. A .parquet has the columns embedding, path and label, and the rest
        in its metadata: root as text, the others as JSON.

        Raises:
            DataError: A path cannot be written as that format has it.
            ConfigError: The file has another suffix, or pyarrow is missing.
        """
        path = Path(path).expanduser()
        storage_of(path).write(path, Columns(*(getattr(self, column) for column in Columns._fields)))

    def find(self, query: str | int) -> int:
        """The row of an image.

        Args:
            query: Its path as in the table, or as it lies on the disk; or the row itself.

        Raises:
            ValueError: There is no such image.
        """
        if isinstance(query, str):
            rows = np.flatnonzero(self.paths == query)
            if not len(rows) and self.root is not None:
                rows = np.flatnonzero(self.paths == os.path.relpath(os.path.realpath(query), self.root))
            if len(rows):
                return int(rows[0])
        if str(query).isdecimal() and int(query) < len(self):
            return int(query)
        raise ValueError(
            f"no image {query!r} among these {len(self):,}: give a path as in the table, such as "
            f"{str(self.paths[0])!r}, or a row from 0 to {len(self) - 1}"
        )

    def label(self, row: int) -> str:
        """The class of an image: its name where it has one, its index, or nothing where there are no labels."""
        if self.labels is None:
            return ""
        index = int(self.labels[row])
        return self.classes[index] if self.classes else str(index)
