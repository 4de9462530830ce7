"""Image decoding: files, PIL images and arrays become tensors (C, H, W) of one number of channels."""

from __future__ import annotations

import contextlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import torch
import torchvision  # noqa: F401  (loads the operator)
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ssl_lib.data.base import SkipImage
from ssl_lib.data.io.deep import is_reduced
from ssl_lib.data.io.pillow import MAX_PIXELS, opened, to_tensor
from ssl_lib.data.io.raw import (
    Array,
    Bands,
    Range,
    fitted,
    has_alpha,
    is_array,
    is_deep_gray,
    is_inverted,
    is_planar,
    orientation_of,
    raw_array,
    raw_pil,
    samples_of,
    to_unit,
    upright,
)
from ssl_lib.data.io.tiff import is_tiff, raw_tiff
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.utils.files import check_regular

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

__all__ = [
    "MAX_PIXELS",
    "Decoder",
    "Depth",
    "OnError",
    "Pages",
    "Reading",
    "Unpack",
    "decode_image",
]

OnError = Literal["raise", "skip"]
Depth = Literal[8, 16]
Pages = Literal["first", "all"]

# torchvision's decoder returns the same pixels as Pillow in three quarters of the time. Its public function is
# deprecated since torchvision 0.29. If the operator is missing (removed or not built), Pillow decodes all images.
_CONTENT = re.compile(r"<_io\.BytesIO object at \w+>")  # in Pillow's messages

_decode_jpeg = getattr(torch.ops.image, "decode_jpeg", None)
_RGB = 3  # mode of the operator


class Reading(TypedDict, total=False):
    """How image files are read: the arguments of `Decoder` that every data set of image files accepts.

    Attributes:
        range: Which values become black and white. "auto" is the range of the file's type, such as 0 to 65535 for 16
            bits; "percentile" is the 1st and 99th percentile of each channel of an image; or two values [low, high].
        depth: 8 for uint8 pixels; 16 for float32 in [0, 1], which keeps 16-bit values.
        bands: Indices of the bands to use, or "all"; null uses gray or RGB files, and refuses other numbers of bands.
        pages: "first" reads the first page of each TIFF file; "all" reads every page as an image of its own.
        max_pixels: Larger images are refused.
    """

    range: Range
    depth: Depth
    bands: Bands
    pages: Pages
    max_pixels: int


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Decodes images in the formats of `formats.extensions`, applies their EXIF orientation and fits their channels.

    Gray images become RGB if `channels` is 3, color images become gray if it is 1. Transparent images are composited
    onto white, where the file says that a band is alpha. Other numbers of bands are refused unless `bands` is set.

    Attributes:
        channels: 3 for RGB, 1 for gray; replaced by the number of `bands`, if they are given.
        on_error: What to do with an unreadable image: "raise" a DataError, or "skip" it (see `SkipImage`).
        range: See `Reading`.
        depth: See `Reading`.
        bands: See `Reading`.
        pages: See `Reading`.
        max_pixels: See `Reading`.

    Raises:
        ValueError: An argument is out of range.
    """

    channels: int = 3
    on_error: OnError = "raise"
    range: Range = "auto"
    depth: Depth = 8
    bands: Bands = None
    pages: Pages = "first"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if isinstance(self.bands, list | tuple):
            if not self.bands or not all(isinstance(band, int) and band >= 0 for band in self.bands):
                raise ValueError(f"bands must be indices from 0, or 'all', got {list(self.bands)}")
            object.__setattr__(self, "bands", tuple(self.bands))
            object.__setattr__(self, "channels", len(self.bands))
        elif self.bands not in (None, "all"):
            raise ValueError(f"bands must be indices from 0, or 'all', got {self.bands!r}")
        elif self.bands is None and self.channels not in (1, 3):
            raise ValueError(f"channels must be 3 (RGB) or 1 (gray), got {self.channels}; set bands for other images")
        if isinstance(self.range, list):
            object.__setattr__(self, "range", tuple(self.range))
        for name, allowed in (("on_error", ("raise", "skip")), ("depth", (8, 16)), ("pages", ("first", "all"))):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} must be {allowed[0]!r} or {allowed[1]!r}, got {value!r}")
        rising = isinstance(self.range, tuple) and len(self.range) == 2 and self.range[0] < self.range[1]
        if not rising and self.range not in ("auto", "percentile"):
            raise ValueError(f"range must be 'auto', 'percentile' or two values in rising order, got {self.range}")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, got {self.max_pixels}")

    def decode(self, source: str | Path | bytes, page: int = 0) -> Tensor:
        """Decodes a file, or its content.

        Returns:
            (channels, H, W): uint8, interleaved in memory (channels_last) as in Pillow; float32 in [0, 1] at depth 16.

        Raises:
            Exception: Any exception that Pillow raises for damaged or truncated files; ValueError for pixel values
                without a known range, too many pixels, or bands that do not fit.
        """
        if not isinstance(source, bytes):
            check_regular(source)
        if is_array(source):
            pixels = raw_array(source)
            if pixels.shape[0] * pixels.shape[1] > self.max_pixels:
                height, width = pixels.shape[:2]
                raise ValueError(
                    f"{width} x {height} pixels are more than max_pixels={self.max_pixels:,}: raise data.max_pixels"
                )
            return self.array(pixels)
        try:
            with opened(source, self.max_pixels) as image:
                image.seek(page)
                return self._decode(image, source, page)
        except UnidentifiedImageError:
            if not is_tiff(source):
                raise
            pixels, orientation, alpha = raw_tiff(source, page, self.max_pixels)  # more bands than Pillow reads
            return self._fit(upright(pixels, orientation), alpha)

    def picture(self, image: Image.Image) -> Tensor:
        """Converts a PIL image of any mode, rotated upright by its EXIF orientation; see `decode`."""
        if not self._is_ordinary(image):
            return self._fit(*raw_pil(image, None, 0))
        return to_tensor(image if orientation_of(image) == 1 else ImageOps.exif_transpose(image), self.channels)

    def array(self, pixels: Array) -> Tensor:
        """Converts an array (H, W, C) of any numbers; see `decode`."""
        return self._fit(pixels, alpha=False)

    def read(self, source: str | bytes, name: str, page: int = 0) -> Tensor:
        """Decodes an image of a data set.

        Args:
            source: The file, or its content.
            name: Name of the image in error messages.
            page: Page of a file with several pages.

        Raises:
            DataError: The image cannot be read. This is a SkipImage if `on_error` is "skip" and no extra is missing.
        """
        try:
            return self.decode(source, page)
        except ConfigError as error:  # an extra is missing: all such images would be skipped
            raise DataError(f"{name} cannot be read as an image ({error})") from error
        except Exception as error:  # Pillow raises many types on damaged files
            detail = _CONTENT.sub("it", str(error).replace(repr(name), "it").replace(name, "it"))
            reason = f"cannot be read as an image ({type(error).__name__}: {detail})"
            if self.on_error == "skip":
                raise SkipImage(name, reason) from error
            raise DataError(
                f"{name} {reason}; repair or remove it, or skip such files with "
                "data.on_error=skip (`ssl-lib pack` and `embed`: --skip-unreadable)"
            ) from error

    def _decode(self, image: Image.Image, source: str | Path | bytes, page: int) -> Tensor:
        overflows = image.format == "JPEG2000" and is_reduced(image, source)  # Pillow turns white into black
        if overflows or not self._is_ordinary(image):
            return self._fit(*raw_pil(image, source, page))
        if _decode_jpeg and self.channels == 3 and _is_plain_jpeg(image):
            with contextlib.suppress(RuntimeError):  # damaged: Pillow reports the problem, or reads as much as it can
                content = bytearray(source) if isinstance(source, bytes) else np.fromfile(source, np.uint8)
                pixels: Tensor = _decode_jpeg(torch.from_numpy(np.frombuffer(content, np.uint8)), _RGB)
                return pixels
        return self.picture(image)

    def _is_ordinary(self, image: Image.Image) -> bool:
        """Whether Pillow's own conversion to 8-bit gray or RGB is all that the image needs."""
        if (self.range, self.depth, self.bands) != ("auto", 8, None):
            return False
        if is_inverted(image) or is_planar(image) or (is_deep_gray(image) and has_alpha(image)):
            return False
        return samples_of(image) in (1, 3) or has_alpha(image) or image.mode == "CMYK"

    def _fit(self, pixels: Array, alpha: bool) -> Tensor:
        values = to_unit(pixels, self.range)
        if alpha and self.bands is None:
            opaque: Range = (0, 1) if np.issubdtype(pixels.dtype, np.floating) else "auto"
            values[..., -1:] = to_unit(pixels[..., -1:], opaque)
        values = fitted(values, self.channels, self.bands, alpha)  # (H, W, channels)
        tensor = torch.from_numpy(values).permute(2, 0, 1)
        return tensor if self.depth == 16 else tensor.mul_(255).round_().to(torch.uint8)


def decode_image(source: str | Path | bytes, channels: int = 3) -> Tensor:
    """Decodes an image file, or its content, and applies its EXIF orientation; see `Decoder.decode`.

    Args:
        source: The file, or its content.
        channels: 3 for RGB, 1 for gray.

    Returns:
        uint8 (channels, H, W), interleaved in memory (channels_last) as in Pillow.

    Raises:
        Exception: See `Decoder.decode`.
    """
    return Decoder(channels=channels).decode(source)


def _is_plain_jpeg(image: Image.Image) -> bool:
    """Whether an opened image, which has passed the checks of Pillow, is an upright RGB JPEG."""
    return image.format in ("JPEG", "MPO") and image.mode == "RGB" and orientation_of(image) == 1
