"""What images store, before they are decoded: the bits, the bands and the pixels of a file or an image."""

from __future__ import annotations

import contextlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from ssl_lib.data.io.pillow import opened
from ssl_lib.data.io.raw import Array, bits_of, has_alpha, is_array, raw_array, raw_pil, samples_of
from ssl_lib.data.io.sample import Source
from ssl_lib.data.io.tiff import is_tiff, raw_tiff
from ssl_lib.errors import ConfigError
from ssl_lib.utils.files import check_regular

__all__ = ["extra_bands", "is_readable", "may_be_deep", "stored_colors", "stored_pixels", "unreadable_because"]


def is_readable(source: str | bytes, max_pixels: int) -> bool:
    """Whether a file, or its content, can be opened as an image, without reading its pixels."""
    return not unreadable_because(source, max_pixels)


def unreadable_because(source: str | bytes, max_pixels: int) -> str:
    """Why a file, or its content, cannot be opened as an image; empty if it can."""
    try:
        if isinstance(source, str):
            check_regular(source)
        if is_array(source):
            raw_array(source)
            return ""
        with opened(source, max_pixels):
            return ""
    except UnidentifiedImageError as error:  # perhaps more bands than Pillow reads
        return "" if is_tiff(source) else str(error)
    except Exception as error:  # Pillow raises many types
        return str(error) or type(error).__name__


def may_be_deep(source: Source, max_pixels: int) -> bool:
    """Whether an image may have more than 8 bits, without reading its pixels."""
    if isinstance(source, Image.Image):
        return bits_of(source) > 8
    if isinstance(source, str | bytes) and not is_array(source):
        with contextlib.suppress(UnidentifiedImageError), opened(source, max_pixels) as image:
            return bits_of(image, source) > 8
    return True


def extra_bands(source: Source, max_pixels: int) -> int:
    """The number of bands of a file if it is neither gray nor RGB, with or without alpha; else 0."""
    if not isinstance(source, str | bytes):
        return 0  # other channels are counted by its data set
    if is_array(source):
        bands = raw_array(source).shape[2]
    else:
        try:
            with opened(source, max_pixels) as image:
                bands = 0 if has_alpha(image) or image.mode == "CMYK" else samples_of(image)
        except UnidentifiedImageError:  # more bands than Pillow reads
            pixels, _, alpha = raw_tiff(source, 0, max_pixels)
            bands = 0 if alpha else pixels.shape[2]
    return 0 if bands in (1, 3) else bands


def stored_colors(source: Source, max_pixels: int) -> Array | None:
    """Returns the colors of an image of integers, without alpha; otherwise None."""
    try:
        pixels, alpha = stored_pixels(source, max_pixels)
    except ConfigError:  # a missing extra; without it, 8 of the 16 bits are read
        assert isinstance(source, str | bytes)
        with opened(source, max_pixels) as image:
            pixels, alpha = np.asarray(image).astype(np.uint16) * 257, has_alpha(image)
    colors = pixels[..., :-1] if alpha else pixels
    return colors if np.issubdtype(colors.dtype, np.integer) else None


def stored_pixels(source: Source, max_pixels: int) -> tuple[Array, bool]:
    """The pixels (H, W, C) of an image as it stores them, and whether the last band is alpha."""
    if isinstance(source, Image.Image):
        return raw_pil(source, None, 0)
    if not isinstance(source, str | bytes):
        return np.atleast_3d(source), False
    if is_array(source):
        return raw_array(source), False
    try:
        with opened(source, max_pixels) as image:
            return raw_pil(image, source, 0)
    except UnidentifiedImageError:
        if not is_tiff(source):
            raise
        pixels, _, alpha = raw_tiff(source, 0, max_pixels)
        return pixels, alpha
