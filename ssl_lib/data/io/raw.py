"""Pixels as a file stores them: any number of bands, 8 to 32 bits, from TIFF, PNG, .npy and .npz files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from ssl_lib.data.io.deep import decode_deep, is_reduced, stored_bits
from ssl_lib.data.io.npy import load_image
from ssl_lib.data.io.tiff import ALPHA, EXTRA_SAMPLES, raw_tiff

__all__ = [
    "Array",
    "Bands",
    "Range",
    "bits_of",
    "fitted",
    "has_alpha",
    "is_array",
    "is_deep_gray",
    "is_inverted",
    "is_planar",
    "orientation_of",
    "raw_array",
    "raw_pil",
    "samples_of",
    "to_unit",
    "upright",
]

Array: TypeAlias = npt.NDArray[Any]
Range: TypeAlias = Literal["auto", "percentile"] | tuple[float, float]
Bands: TypeAlias = tuple[int, ...] | Literal["all"] | None

_SAMPLES, _BITS, _PHOTOMETRIC, _PLANAR = 277, 258, 262, 284  # TIFF tags
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as in Pillow


def has_alpha(image: Image.Image) -> bool:
    """Whether an image has an alpha band. In TIFF and JPEG 2000, only if the file says so: a band may be infrared."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None and image.mode in ("RGBA", "RGBX", "RGBa", "LA"):
        return (0, *tags.get(EXTRA_SAMPLES, ()))[-1] in ALPHA
    file = getattr(image, "fp", None)
    if image.format == "JPEG2000" and image.mode in ("RGBA", "LA") and file is not None:
        return _marks_opacity(file)
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _marks_opacity(file: IO[bytes]) -> bool:
    """Whether the channel definition of a JPEG 2000 file names an opacity channel; a bare codestream has none."""
    place = file.tell()
    file.seek(0)
    header = file.read(4096).partition(b"jp2c")[0]
    file.seek(place)
    start = header.find(b"cdef") + 4
    if start < 4 or not header.startswith(b"\0\0\0\x0cjP"):
        return False
    (count,) = struct.unpack(">H", header[start : start + 2])
    kinds = struct.unpack(f">{3 * count}H", header[start + 2 : start + 2 + 6 * count])[1::3]
    return any(kind in (1, 2) for kind in kinds)


def samples_of(image: Image.Image) -> int:
    """The number of bands that the file of an image has."""
    tags = getattr(image, "tag_v2", None)
    return len(image.getbands()) if tags is None else int(tags.get(_SAMPLES, 1))


def bits_of(image: Image.Image, source: str | Path | bytes | None = None) -> int:
    """The number of bits of each value in a file; 8 if it is not known."""
    if source is not None and (bits := stored_bits(image, source)) is not None:
        return bits
    other = 16 if is_deep_gray(image) else 8
    return int(max(getattr(image, "tag_v2", {}).get(_BITS, (other,))))


def is_inverted(image: Image.Image) -> bool:
    """Whether 0 is white in the pixels that Pillow returns: in TIFF files of more than 8 bits that say so."""
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0 and bits_of(image) in (12, 16)


def is_planar(image: Image.Image) -> bool:
    """Whether a TIFF file stores bands of more than 8 bits one after the other, which Pillow reads wrong."""
    return getattr(image, "tag_v2", {}).get(_PLANAR) == 2 and samples_of(image) > 1 and bits_of(image) > 8


def is_deep_gray(image: Image.Image) -> bool:
    """Whether Pillow opened a gray image of 16 bits."""
    return image.mode == "I" or image.mode.startswith("I;16")


def is_array(source: str | Path | bytes) -> bool:
    """Whether a file, by its name, or a content is a .npy or .npz."""
    if isinstance(source, bytes):
        return source.startswith((b"\x93NUMPY", b"PK\x03\x04"))
    return str(source).lower().endswith((".npy", ".npz"))


def raw_array(source: str | Path | bytes) -> Array:
    """Reads an image (H, W) or (H, W, C) from a .npy, or from a .npz with one array or an array named `image`.

    Raises:
        ValueError: The file contains another shape, more than one array, or the channels seem to be first.
    """
    pixels = load_image(source)
    if pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ValueError(f"an image must have shape (H, W) or (H, W, C), got {pixels.shape}")
    if pixels.ndim == 2:
        return pixels[..., None]
    first, height, width = pixels.shape
    if width > 4 and (first <= 4 or (height == width and first < width) or 4 * first <= min(height, width)):
        raise ValueError(
            f"an image must have shape (H, W, C), and {pixels.shape} is a stack of images, or has its channels first: "
            "save each image of a stack to its own file, or image.transpose(1, 2, 0)"
        )
    return pixels


def raw_pil(image: Image.Image, source: str | Path | bytes | None, page: int) -> tuple[Array, bool]:
    """Returns the pixels (H, W, C) of an opened image with the depth of its file, and whether the last band is alpha.

    Args:
        image: The image.
        source: The file of the image, or its content; None for an image that has no file.
        page: The page of the file.

    Raises:
        ConfigError: The file needs tifffile, which is not installed.
    """
    alpha, known = has_alpha(image), len(image.getbands())
    if source is not None and (samples_of(image) > known or (known > 1 and bits_of(image) > 8)):  # Pillow drops some
        pixels, orientation, alpha = raw_tiff(source, page)
        return upright(pixels, orientation), alpha
    image.load()  # raises an error for a damaged file
    if source is not None and is_reduced(image, source):
        pixels = decode_deep(image, source)
        return upright(pixels, orientation_of(image)), alpha and pixels.shape[2] in (2, 4)  # not a transparent color
    orientation = orientation_of(image)  # after loading: Pillow turns TIFF files upright
    if alpha and is_deep_gray(image):  # one gray value is transparent
        gray = np.asarray(image).astype(np.uint16)
        opacity = np.where(gray == image.info["transparency"], 0, 65535).astype(np.uint16)
        return upright(np.stack((gray, opacity), axis=2), orientation), True
    if image.mode == "P" or (alpha and image.mode not in ("LA", "RGBA")):
        image = image.convert("RGBA" if alpha else "RGB")
    elif image.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    array = np.asarray(image)
    if is_inverted(image):
        array = 2 ** bits_of(image) - 1 - array
    return upright(array if array.ndim == 3 else array[..., None], orientation), alpha


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 for images without."""
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def upright(pixels: Array, orientation: int) -> Array:
    """Turns an image (H, W, C) upright, whose EXIF orientation is 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def to_unit(pixels: Array, limits: Range) -> npt.NDArray[np.float32]:
    """Maps pixels (H, W, C) of any type to float32 in [0, 1]; see `Reading.range`.

    Raises:
        ValueError: The range of the values is not known, or a value is not finite.
    """
    if np.issubdtype(pixels.dtype, np.floating) and not np.isfinite(pixels).all():
        raise ValueError("pixels must be finite, got NaN or infinity")
    if limits == "auto":
        low, high = 0.0, _highest(pixels)
    elif limits == "percentile":
        numbers = pixels.view(np.uint8) if pixels.dtype == np.bool_ else pixels
        low, high = np.percentile(numbers, (1, 99), axis=(0, 1))
        high = np.where(high > low, high, low + 1)
    else:
        low, high = limits
    scaled = pixels.astype(np.float64 if pixels.dtype.itemsize > 2 else np.float32)
    scaled -= low  # in place: images are large
    scaled /= high - low
    return np.clip(scaled, 0, 1, out=scaled).astype(np.float32, copy=False)


def fitted(values: npt.NDArray[np.float32], channels: int, bands: Bands, alpha: bool) -> npt.NDArray[np.float32]:
    """Chooses bands or converts between gray and RGB: (H, W, C) -> (H, W, channels).

    Raises:
        ValueError: The bands do not fit.
    """
    count = values.shape[2]
    if bands == "all":
        if count != channels:
            raise ValueError(f"the image has {count} bands, the others {channels}: choose some with data.bands")
        return values
    if bands is not None:
        if max(bands) >= count:
            raise ValueError(f"the image has {count} band{'s' * (count > 1)}, but data.bands names band {max(bands)}")
        return np.ascontiguousarray(values[..., list(bands)])
    if alpha:
        values, opacity = values[..., :-1], values[..., -1:]
        values = values * opacity + (1 - opacity)
        count -= 1
    if count == channels:
        return np.ascontiguousarray(values)
    if count == 1:
        return np.repeat(values, channels, axis=2)
    if count == 3 and channels == 1:
        return (values @ _LUMINANCE)[..., None]
    raise ValueError(
        f"the image has {count} bands{' and alpha' if alpha else ', none of them marked as alpha'}: choose bands, "
        "such as data.bands=[0,1,2], or keep them with data.bands=all"
    )


def _highest(pixels: Array) -> float:
    if pixels.dtype == np.bool_:
        return 1.0
    if pixels.dtype in (np.uint8, np.uint16):
        return float(np.iinfo(pixels.dtype).max)
    if np.issubdtype(pixels.dtype, np.integer) and pixels.min() >= 0 and pixels.max() <= 65535:
        return 65535.0
    raise ValueError(
        f"{pixels.dtype} values from {pixels.min():g} to {pixels.max():g} have no known range; set "
        "data.range=[low,high] or data.range=percentile, or save the image with 8 or 16 bits"
    )
