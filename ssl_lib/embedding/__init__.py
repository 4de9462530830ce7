"""What an encoder makes of many images, kept in one file; and what people who curate images do with it."""

from ssl_lib.embedding.curate import coverage, duplicate_groups, farthest_points, nearest
from ssl_lib.embedding.extract import Embedded, embed
from ssl_lib.embedding.picture import Shown, draw_neighbors
from ssl_lib.embedding.table import EmbeddingTable

__all__ = [
    "Embedded",
    "EmbeddingTable",
    "Shown",
    "coverage",
    "draw_neighbors",
    "duplicate_groups",
    "embed",
    "farthest_points",
    "nearest",
]
