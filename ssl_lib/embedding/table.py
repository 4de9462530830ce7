"""`EmbeddingTable`: embeddings with image paths and labels, loaded from and saved to a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_lib.embedding.storage import storage_of
from ssl_lib.errors import DataError

__all__ = ["EmbeddingTable"]


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """A table of embeddings with one row per image.

    Args:
        embeddings: float32 (N, D).
        paths: (N,), image paths relative to the root folder, or image indices if the images are not files.
        labels: Class indices, int64 (N,), or None.
        classes: Class names in the order of the class indices; empty if unknown.
        root: Folder that the paths are relative to; None if unknown.
        skipped: Paths of the unreadable images, which have no row.
        made_of: Images, encoder and settings as JSON types. `embed` compares them to recognize its own table.

    Raises:
        ValueError: Shapes or types do not match, or a label has no class.
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
            raise ValueError(f"embeddings must be float32 (N, D) and not empty, got {self.embeddings.dtype} {shape}")
        if self.paths.dtype.kind != "U" or self.paths.shape != shape[:1]:
            raise ValueError(f"paths must be {shape[0]} strings, got {self.paths.dtype} {self.paths.shape}")
        if not isinstance(self.made_of, Mapping):
            raise ValueError(f"made_of must be a mapping, got {self.made_of!r:.200}")
        if self.labels is None:
            return
        if self.labels.dtype != np.int64 or self.labels.shape != shape[:1]:
            raise ValueError(f"labels must be int64 ({shape[0]},), got {self.labels.dtype} {self.labels.shape}")
        least, most = int(self.labels.min()), int(self.labels.max())
        if least < 0 or (self.classes and most >= len(self.classes)):
            raise ValueError(f"labels must be in [0, {len(self.classes)}), got {least} to {most}")

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"EmbeddingTable({len(self):,} images x {self.embeddings.shape[1]}, from {self.root or 'no folder'})"

    @classmethod
    def load(cls, path: str | Path) -> EmbeddingTable:
        """Loads a table. Pickled data is rejected, so no code in the file can run.

        The embeddings of a .npz file are memory-mapped, so the table may be larger than memory. The embeddings of a
        .parquet file (needs the extra `parquet`) are read into memory.

        Raises:
            DataError: The file is missing, damaged, pickled, or not a table.
            ConfigError: The suffix is not supported, or pyarrow is not installed.
        """
        path = Path(path).expanduser()
        read, _ = storage_of(path)
        if not path.is_file():
            raise DataError(f"{path.absolute()}: no such file; pass a table written by `ssl-lib embed`")
        try:
            table = read(path)
            table["embeddings"] = np.require(table["embeddings"], np.float32, ["C", "A"])  # no copy of `embed`'s file
            if table["labels"] is not None:
                table["labels"] = table["labels"].astype(np.int64, casting="safe")
            lists = {key: tuple(map(str, table.get(key, ()))) for key in ("classes", "skipped")}
            return cls(**{**table, **lists})
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: not a readable table written by `ssl-lib embed` ({error})") from error

    def save(self, path: str | Path) -> None:
        """Writes a .npz or .parquet file atomically, reading the embeddings in chunks.

        A .npz file has one array per attribute; labels and root are missing if they are None. root and made_of (JSON)
        are 0-dimensional: `str(file["root"])`. A .parquet file has the columns embedding, path and label; its metadata
        holds root as a string and the other attributes as JSON.

        Raises:
            DataError: A path cannot be represented in the file format.
            ConfigError: The suffix is not supported, or pyarrow is not installed.
        """
        path = Path(path).expanduser()
        _, write = storage_of(path)
        write(path, vars(self))

    def find(self, query: str | int) -> int:
        """Finds the row of an image.

        Args:
            query: The path in the table, the path of the file, or the row itself.

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
            f"no image '{query}' in this table of {len(self):,} images: pass a path as in the table, such as "
            f"'{self.paths[0]}', or a row from 0 to {len(self) - 1}"
        )

    def label(self, row: int) -> str:
        """Class name of a row; its class index if the classes have no names; empty if there are no labels."""
        if self.labels is None:
            return ""
        index = int(self.labels[row])
        return self.classes[index] if self.classes else str(index)
