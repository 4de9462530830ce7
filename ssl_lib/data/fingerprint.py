"""Fingerprint of a data set: digests of the names and sizes of its images, by which a resumed run knows them."""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.resumable import digest

__all__ = ["fingerprint"]

_SIZES = 10_000  # images whose sizes are compared, evenly spaced: a file system may need a millisecond for each


def fingerprint(data: ImageData, indices: Tensor) -> dict[str, Any]:
    """Describes images by their number and digests of their names and sizes, as JSON types.

    Sizes are the file sizes of up to 10,000 evenly spaced images; for an `ArrayData`, the shape of an image. The folder
    or the URL of the data may change.

    Args:
        data: The data set.
        indices: (N,), positions of the images in use.
    """
    places = indices.tolist()
    if isinstance(data, ArrayData):
        names, sizes = str(len(data)), f"{data.channels} x {data.height} x {data.width}"
    else:
        some = places[:: max(1, -(-len(places) // _SIZES))]
        own = data if isinstance(data, ImageDataset) else None
        names = "\0".join(own.key(place) if own else str(place) for place in places)
        sizes = " ".join(str(own.file_size(place)) for place in some) if own else ""
    return {"images": len(places), "names": digest(os.fsencode(names)), "sizes": digest(sizes.encode())}
