"""Image decoding: image files and PIL images to uint8 tensors."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torchvision  # noqa: F401  (loads the operator)
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from ssl_lib.data.base import SkipImage
from ssl_lib.errors import DataError
from ssl_lib.utils.files import check_regular

__all__ = ["OnError", "check_reading", "decode_image", "read_image", "to_tensor"]

OnError = Literal["raise", "skip"]

# Pillow detects the format from the content. Other formats are disabled, such as EPS, which runs Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

# torchvision's decoder returns the same pixels as Pillow in three quarters of the time. Its public function is
# deprecated since torchvision 0.29. If the operator is missing (removed or not built), Pillow decodes all images.
_decode_jpeg = getattr(torch.ops.image, "decode_jpeg", None)
_RGB = 3  # mode of the operator


def decode_image(source: str | Path | bytes, channels: int = 3) -> Tensor:
    """Decodes a PNG, JPEG, WebP, BMP, TIFF or GIF file (first frame) and applies its EXIF orientation.

    Args:
        source: The file, or its content.
        channels: 3 for RGB, 1 for gray.

    Returns:
        uint8 (channels, H, W), interleaved in memory (channels_last) as in Pillow.

    Raises:
        Exception: Any exception that Pillow raises for damaged, truncated or oversized files; ValueError for pixel
            values without a known range.
    """
    if not isinstance(source, bytes):
        check_regular(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(file, formats=_FORMATS) as image:
        if _decode_jpeg and channels == 3 and _is_plain_jpeg(image):
            with contextlib.suppress(RuntimeError):  # damaged: Pillow reports the problem, or reads as much as it can
                content = bytearray(source) if isinstance(source, bytes) else np.fromfile(source, np.uint8)
                pixels: Tensor = _decode_jpeg(torch.from_numpy(np.frombuffer(content, np.uint8)), _RGB)
                return pixels
        ImageOps.exif_transpose(image, in_place=True)  # otherwise it copies images that are upright
        return to_tensor(image, channels)


def check_reading(channels: int, on_error: OnError) -> None:
    """Checks the arguments that a data set passes to `read_image`.

    Raises:
        ValueError: `channels` is not 3 or 1, or `on_error` not "raise" or "skip".
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 3 (RGB) or 1 (gray), got {channels}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")


def read_image(source: str | bytes, name: str, channels: int, on_error: OnError) -> Tensor:
    """Decodes an image as `decode_image` does.

    Args:
        source: The file, or its content.
        name: Name of the image in error messages.
        channels: 3 for RGB, 1 for gray.
        on_error: What to do with an unreadable image: "raise" a DataError, or "skip" it (see `SkipImage`).

    Raises:
        DataError: The image cannot be read. This is a SkipImage if `on_error` is "skip".
    """
    try:
        return decode_image(source, channels)
    except Exception as error:  # Pillow raises many types on damaged files
        detail = str(error).replace(repr(name), "it").replace(name, "it")
        reason = f"cannot be read as an image ({type(error).__name__}: {detail})"
        if on_error == "skip":
            raise SkipImage(name, reason) from error
        raise DataError(
            f"{name} {reason}; repair or remove it, or skip such files with "
            "data.on_error=skip (`ssl-lib pack` and `embed`: --skip-unreadable)"
        ) from error


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
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    mode = "RGB" if channels == 3 else "L"
    pixels = torch.from_numpy(np.array(image if image.mode == mode else image.convert(mode)))  # convert always copies
    return pixels.permute(2, 0, 1) if channels == 3 else pixels.unsqueeze(0)


def _is_plain_jpeg(image: Image.Image) -> bool:
    """Whether an opened image, which has passed the checks of Pillow, is an upright RGB JPEG."""
    return image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(ExifTags.Base.Orientation, 1) == 1


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point values have no known range; save the image with 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"gray values from {values.min()} to {values.max()} do not fit 16 bits; save the image with 8 or 16 bits"
        )
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
