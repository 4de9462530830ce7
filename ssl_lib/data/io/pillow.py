"""Pillow: opens image files of the known formats, without its warnings and its limit of pixels; converts images."""

from __future__ import annotations

import contextlib
import importlib
import io
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ssl_lib.data.io.formats import PILLOW_FORMATS
from ssl_lib.data.io.raw import has_alpha, is_deep_gray, to_unit
from ssl_lib.utils.optional import needs

__all__ = ["MAX_PIXELS", "opened", "to_tensor"]

_STRIP = 2**22  # pixels

MAX_PIXELS = 178_956_970  # above this, Pillow refuses an image as a possible decompression bomb

_LIMIT = threading.Lock()


@contextlib.contextmanager
def opened(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Opens an image with Pillow, without its warnings.

    Raises:
        DecompressionBombError: The image has more than `max_pixels`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = _open(source)
        except UnidentifiedImageError:
            if not _is_heif(source):
                raise
            with needs("ssl_lib[heic]", "a HEIC image"):
                heif: Any = importlib.import_module("pillow_heif")
            heif.register_heif_opener()
            image = _open(source)
        with image:
            if image.width * image.height > max_pixels:
                raise Image.DecompressionBombError(
                    f"{image.width} x {image.height} pixels are more than max_pixels={max_pixels:,}: raise "
                    "data.max_pixels, or cut the image into tiles with `ssl-lib pack --tile`"
                )
            yield image


def to_tensor(image: Image.Image, channels: int = 3) -> Tensor:
    """Converts a PIL image of any mode to uint8 (channels, H, W).

    Transparent images are composited onto white. 16-bit gray values are scaled so that 65535 becomes 255.

    Args:
        image: Any PIL image.
        channels: 3 for RGB, 1 for gray.

    Raises:
        ValueError: The image has floating-point values, or gray values that do not fit 16 bits; their range is unknown.
    """
    image = _to_eight_bits(image)
    if has_alpha(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    image.load()  # damaged files fail before memory is allocated
    pixels = torch.empty(image.height, image.width, channels, dtype=torch.uint8)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):  # converted strip by strip: large images need no second copy
        strip = image if rows >= image.height else image.crop((0, top, image.width, min(top + rows, image.height)))
        array = np.array(strip.convert("RGB" if channels == 3 else "L"))
        pixels[top : top + rows] = torch.from_numpy(array).view(*array.shape[:2], channels)
    return pixels.permute(2, 0, 1)


def _open(source: str | Path | bytes) -> Image.Image:
    Image.init()
    formats = [name for name in PILLOW_FORMATS if name in Image.OPEN]
    with _LIMIT:  # Pillow's limit is global
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _is_heif(source: str | Path | bytes) -> bool:
    """Whether a file, or its content, starts like a HEIC image, whatever its name."""
    if isinstance(source, bytes):
        return source[4:8] == b"ftyp" and source[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1")
    with open(source, "rb") as file:
        return _is_heif(file.read(12))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F" or is_deep_gray(image):
        return Image.fromarray(np.rint(to_unit(np.asarray(image), "auto") * 255).astype(np.uint8))
    return image
