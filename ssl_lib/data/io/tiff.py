"""TIFF files: their pages, and pixels with any number of bands and bits, which tifffile reads."""

from __future__ import annotations

import importlib
import io
import logging
import struct
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ssl_lib.utils.optional import needs

__all__ = ["ALPHA", "EXTRA_SAMPLES", "is_tiff", "page_numbers", "raw_tiff"]

Array: TypeAlias = npt.NDArray[Any]

EXTRA_SAMPLES = 338  # TIFF tag: the kind of each band after gray or RGB
ALPHA = (1, 2, 999)  # values of ExtraSamples; 0 means a band of an unspecified kind
_PREMULTIPLIED = 1  # value of ExtraSamples
_ORIENTATION, _PHOTOMETRIC, _SUBFILE_TYPE = 274, 262, 254  # tags
_WHITE_IS_ZERO = 0  # value of PhotometricInterpretation
_REDUCED_OR_MASK = 0b101  # bits of NewSubfileType

logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # it logs files that tifffile reads instead


def is_tiff(source: str | Path | bytes) -> bool:
    """Whether a file, or its content, starts like a TIFF file."""
    if isinstance(source, bytes):
        return source[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    with open(source, "rb") as file:
        return is_tiff(file.read(4))


def page_numbers(source: str | Path | bytes) -> list[int]:
    """Returns the numbers of the pages that are images, not smaller copies or masks of other pages.

    Raises:
        OSError: The file cannot be read.
        struct.error: The file is damaged.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        order = "<" if file.read(2) == b"II" else ">"
        big = _number(file.read(2), f"{order}H") == 43  # BigTIFF
        size, value_at, count_type, offset_type = (20, 12, "Q", "Q") if big else (12, 8, "H", "I")
        count_type, offset_type = order + count_type, order + offset_type
        file.seek(8 if big else 4)
        offset = _number(file.read(struct.calcsize(offset_type)), offset_type)
        found, seen = [], set[int]()
        while offset and offset not in seen:
            seen.add(offset)
            file.seek(offset)
            entries = file.read(size * _number(file.read(struct.calcsize(count_type)), count_type))
            offset = _number(file.read(struct.calcsize(offset_type)), offset_type)
            has_type = len(entries) >= size and _number(entries[:2], f"{order}H") == _SUBFILE_TYPE  # tags are sorted
            kind = _number(entries[value_at : value_at + 4], f"{order}I") if has_type else 0
            if not kind & _REDUCED_OR_MASK:
                found.append(len(seen) - 1)
    return found or [0]


def _number(content: bytes, kind: str) -> int:
    return int(struct.unpack(kind, content)[0])


def raw_tiff(source: str | Path | bytes, page: int, max_pixels: int | None = None) -> tuple[Array, int, bool]:
    """Reads a page of a TIFF file with tifffile.

    Returns:
        The pixels (H, W, C) as they are stored, except that black is 0; the orientation, 1 to 8; and whether the last
        band is alpha.

    Raises:
        ConfigError: tifffile is not installed.
        ValueError: The page has more than `max_pixels`, or more than three dimensions.
    """
    with needs("ssl_lib[tiff]", "a TIFF file with such bands"):
        tifffile: Any = importlib.import_module("tifffile")
    with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
        found = file.pages[page]
        height, width, count = found.imagelength, found.imagewidth, found.samplesperpixel
        if max_pixels is not None and height * width > max_pixels:
            raise ValueError(
                f"{width} x {height} pixels are more than max_pixels={max_pixels:,}: raise data.max_pixels"
            )
        pixels = found.asarray()
        if pixels.ndim > 2 and found.planarconfig == 2:  # bands first
            pixels = np.moveaxis(pixels.reshape(count, height, width), 0, -1)
        pixels = pixels.reshape(height, width, count)
        tags = {tag.code: tag.value for tag in found.tags}
    extra = tags.get(EXTRA_SAMPLES, ())
    kind = (0, *extra)[-1] if isinstance(extra, tuple) else extra
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and np.issubdtype(pixels.dtype, np.unsignedinteger):
        pixels = np.iinfo(pixels.dtype).max - pixels
    if kind == _PREMULTIPLIED and np.issubdtype(pixels.dtype, np.unsignedinteger):
        pixels = _straight(pixels)
    return pixels, int(tags.get(_ORIENTATION, 1)), kind in ALPHA


def _straight(pixels: Array) -> Array:
    """Divides the colors by the opacity, the last band."""
    highest = np.iinfo(pixels.dtype).max
    colors = pixels[..., :-1] * (highest / np.maximum(pixels[..., -1:], 1).astype(np.float64))
    straight = np.rint(np.minimum(colors, highest)).astype(pixels.dtype)
    return np.concatenate([straight, pixels[..., -1:]], axis=2)
