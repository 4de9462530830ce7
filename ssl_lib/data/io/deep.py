"""Images of more than 8 bits that Pillow reduces to 8: PNG in color, JPEG 2000, AVIF and HEIC."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ssl_lib.utils.optional import needs

__all__ = ["decode_deep", "is_reduced", "stored_bits"]

Array: TypeAlias = npt.NDArray[Any]

_HEADER = 2**20  # bytes; color profiles come before the description of the pixels
_decode_png = getattr(torch.ops.image, "decode_png", None)
_UNCHANGED = 0  # mode of the operator
_RGB, _GRAY = 16, 17  # color spaces of JPEG 2000


def stored_bits(image: Image.Image, source: str | Path | bytes) -> int | None:
    """Returns the bits of each value in a file, which Pillow opened; None for formats that are not named above."""
    if image.format == "HEIF":
        return int(image.info.get("bit_depth", 8))
    if image.format == "PNG":
        return _start(source, 25)[24]
    if image.format == "JPEG2000":
        header = _start(source, _HEADER)
        place = header.find(b"\xff\x4f\xff\x51")  # start of the codestream, and of the sizes
        return 8 if place < 0 else (header[place + 42] & 0x7F) + 1
    if image.format == "AVIF":
        flags = [part[2] for part in _start(source, _HEADER).split(b"av1C")[1:]]  # of the colors, and of an alpha image
        return max((12 if flag & 0x20 else 10 if flag & 0x40 else 8 for flag in flags), default=8)
    return None


def is_reduced(image: Image.Image, source: str | Path | bytes | None) -> bool:
    """Whether Pillow returns 8 bits of an image whose file has more; False for TIFF files, see `samples_of`."""
    return source is not None and image.mode[0] != "I" and (stored_bits(image, source) or 8) > 8


def decode_deep(image: Image.Image, source: str | Path | bytes) -> Array:
    """Decodes an image that is reduced by Pillow.

    Args:
        image: The image, which was loaded: torchvision's decoder crashes on damaged files, others read a part of them.
        source: Its file, or the content.

    Returns:
        uint16 (H, W, C), where 65535 is the largest value of the file's bits.

    Raises:
        Exception: The decoder's errors for a damaged file; ConfigError if the decoder is not installed; ValueError for
            color spaces that it does not convert.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    bits = stored_bits(image, source) or 8
    if image.format == "PNG":
        pixels = _png(content)
    elif image.format == "HEIF":
        heif: Any = importlib.import_module("pillow_heif")  # which opened the image
        pixels = np.asarray(heif.open_heif(io.BytesIO(content), convert_hdr_to_8bit=False)) >> (16 - bits)
    else:
        with needs("ssl_lib[tiff]", f"a {image.format} image of {bits} bits"):
            codecs: Any = importlib.import_module("imagecodecs")
        if image.format == "JPEG2000":
            _check_color_space(content)
        pixels = (codecs.jpeg2k_decode if image.format == "JPEG2000" else codecs.avif_decode)(content)
    if pixels.dtype != np.uint16:
        raise ValueError(f"{bits} bits per value are not supported: save the image with 8 or 16 bits")
    scaled = pixels if bits == 16 else np.rint(pixels * (65535 / (2**bits - 1))).astype(np.uint16)
    return scaled if scaled.ndim == 3 else scaled[..., None]


def _start(source: str | Path | bytes, size: int) -> bytes:
    """The first bytes of a file, or of its content."""
    if isinstance(source, bytes):
        return source[:size]
    with open(source, "rb") as file:
        return file.read(size)


def _png(content: bytes) -> Array:
    if _decode_png is None:
        raise ValueError("this torchvision cannot decode PNG files of 16 bits: update it, or save the image as TIFF")
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        image.verify()  # checksums
    decoded: torch.Tensor = _decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8), _UNCHANGED)
    return decoded.permute(1, 2, 0).numpy()


def _check_color_space(content: bytes) -> None:
    start = content.find(b"colr", 0, content.find(b"jp2c") + 1)
    enumerated = start > 0 and content[start + 4] == 1
    space = int.from_bytes(content[start + 7 : start + 11], "big") if enumerated else _RGB
    if space not in (_RGB, _GRAY):
        raise ValueError(f"JPEG 2000 images of more than 8 bits must be gray or RGB, got color space {space}")
