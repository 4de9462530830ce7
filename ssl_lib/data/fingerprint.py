"""Fingerprint of a data set: digests and lists of the names and sizes of its images, which a resumed run compares."""

from __future__ import annotations

import base64
import os
import zlib
from typing import Any

from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.resumable import digest
from ssl_lib.errors import listed

__all__ = ["compare_files", "file_list", "fingerprint"]

_SIZES = 10_000  # images whose sizes are compared, evenly spaced: a file system may need a millisecond for each
_NAMES = 100_000  # most images that are listed by name, in about a megabyte of each checkpoint


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
        own = data if isinstance(data, ImageDataset) else None
        names = "\0".join(own.key(place) if own else str(place) for place in places)
        sizes = " ".join(str(own.file_size(place)) for place in places[:: _step(places)]) if own else ""
    return {"images": len(places), "names": digest(os.fsencode(names)), "sizes": digest(sizes.encode())}


def file_list(data: ImageData, indices: Tensor) -> str | None:
    """Lists the names and sizes of images as compressed text, for `compare_files`.

    Args:
        data: The data set.
        indices: (N,), positions of the images in use.

    Returns:
        The list; None for more than 100,000 images, and for images without names.
    """
    places = indices.tolist()
    if not isinstance(data, ImageDataset) or len(places) > _NAMES:
        return None
    names = [data.key(place) for place in places]
    if names == list(map(str, places)):
        return None
    step = _step(places)
    sizes = [str(data.file_size(place)) if number % step == 0 else "" for number, place in enumerate(places)]
    text = "\0".join(f"{name}\0{size}" for name, size in zip(names, sizes, strict=True))
    return base64.b64encode(zlib.compress(os.fsencode(text))).decode()


def compare_files(before: str, now: str) -> str:
    """Says which images of two results of `file_list` were added, removed or changed; empty if none was."""
    old, new = _sizes_by_name(before), _sizes_by_name(now)
    changes = {
        "added": new.keys() - old.keys(),
        "removed": old.keys() - new.keys(),
        "of another size": {name for name in old.keys() & new.keys() if "" != old[name] != new[name] != ""},
    }
    found = [f"{len(names):,} {kind}: {listed(sorted(names), 3)}" for kind, names in changes.items() if names]
    return "; ".join(found) or ("the same images in another order" if list(old) != list(new) else "")


def _sizes_by_name(text: str) -> dict[str, str]:
    parts = os.fsdecode(zlib.decompress(base64.b64decode(text))).split("\0")
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _step(places: list[int]) -> int:
    """One of this many images is in the sample whose sizes are compared."""
    return max(1, -(-len(places) // _SIZES))
