"""Embedding tables: extraction, storage, nearest neighbors, near-duplicates and diverse subsets."""

from ssl_lib.embedding.curate import coverage, farthest_points, nearest
from ssl_lib.embedding.duplicates import duplicate_groups
from ssl_lib.embedding.extract import Embedded, embed
from ssl_lib.embedding.picture import Shown, draw_neighbors
from ssl_lib.embedding.same_files import SameFiles, same_files
from ssl_lib.embedding.table import EmbeddingTable

__all__ = [
    "Embedded",
    "EmbeddingTable",
    "SameFiles",
    "Shown",
    "coverage",
    "draw_neighbors",
    "duplicate_groups",
    "embed",
    "farthest_points",
    "nearest",
    "same_files",
]
