"""A fixed sample of a data set's images, by which its properties are found when it is opened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import torch
from PIL import Image

from ssl_lib.data.io.raw import Array
from ssl_lib.utils.seeding import seeded_generator

__all__ = ["DEEP", "Sample", "Source", "sample_of", "sample_of_names"]

Source: TypeAlias = str | bytes | Image.Image | Array
"""The file of an image, its content, or the image itself: a PIL image, or an array (H, W) or (H, W, C)."""

Sample: TypeAlias = Mapping[str, Source]
"""The images of a sample by name."""

DEEP = (
    *(".tif", ".tiff", ".png", ".apng", ".npy", ".npz", ".pgm", ".ppm", ".pnm"),
    *(".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif"),
)
"""Endings of files that may have more than 8 bits, other bands than RGB, or several pages."""

_SAMPLE = 32  # images


def sample_of(count: int, seed: int = 0) -> list[int]:
    """A fixed sample of the positions of `count` images, in rising order, with the first."""
    drawn = torch.randint(count, (_SAMPLE - 1,), generator=seeded_generator("sample", seed))
    return sorted({0, *drawn.tolist()})


def sample_of_names(names: Iterable[str]) -> list[int]:
    """A fixed sample of the positions of files, in rising order: of all of them, and of each ending in `DEEP`."""
    by_ending, count = defaultdict[str, list[int]](list), 0
    for index, name in enumerate(names):
        by_ending[name[name.rfind(".") :]].append(index)
        count += 1
    positions = set(sample_of(count))
    for ending, places in by_ending.items():
        if ending.lower() in DEEP:
            positions.update(places[position] for position in sample_of(len(places)))
    return sorted(positions)
