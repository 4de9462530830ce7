"""Looks at a sample of a data set's files, to find what would otherwise go unnoticed until training has ended."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from PIL import UnidentifiedImageError

from ssl_lib.data.base import checked_statistics, warn
from ssl_lib.data.io.decode import Decoder
from ssl_lib.data.io.pillow import opened
from ssl_lib.data.io.raw import Array, bits_of, has_alpha, is_array, raw_array, raw_pil, samples_of
from ssl_lib.data.io.tiff import is_tiff, page_numbers, raw_tiff
from ssl_lib.errors import DataError
from ssl_lib.utils.files import check_regular
from ssl_lib.utils.seeding import seeded_generator

__all__ = ["pages_of", "sample_of", "survey"]

Statistics: TypeAlias = tuple[float, ...]
Sample: TypeAlias = dict[str, str | bytes]
"""The files of a sample, or their contents, by name."""

_SAMPLE = 32  # files
_DEEP = (".tif", ".tiff", ".png", ".npy", ".npz", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k")
_NONE_READABLE = "no file of a sample can be read, so the bands and their mean and std are not known"
_EMPTY = 4  # values that reach less than a quarter of the range use at most six of eight bits


def sample_of(count: int) -> list[int]:
    """A fixed sample of the positions of `count` images, in rising order, with the first."""
    drawn = torch.randint(count, (_SAMPLE - 1,), generator=seeded_generator("sample", 0))
    return sorted({0, *drawn.tolist()})


def pages_of(decoder: Decoder, paths: Sequence[str]) -> list[list[int]] | None:
    """The pages of each file; None if only the first page is read, or no file is a TIFF.

    Raises:
        DataError: A TIFF file cannot be opened.
    """
    if decoder.pages == "first" or not any(_is_tiff_name(path) for path in paths):
        return None
    pages = []
    for path in paths:
        numbers = [0]
        if _is_tiff_name(path):
            try:
                check_regular(path)
                numbers = page_numbers(path)
            except (OSError, struct.error) as error:
                if decoder.on_error == "raise":
                    raise DataError(f"{path}: its pages cannot be counted ({error}); repair or remove it") from error
        pages.append(numbers)
    return pages


def survey(
    decoder: Decoder,
    count: int,
    name: Callable[[int], str],
    source: Callable[[int], str | bytes],
    mean: Statistics | None,
    std: Statistics | None,
    *,
    check: bool = True,
) -> tuple[Decoder, Statistics, Statistics]:
    """Reads a sample: the number of bands, if all are kept; mean and std, if they are needed; pages and ranges.

    Args:
        decoder: The decoder of the files.
        count: The number of images.
        name: The name of an image.
        source: The file of an image, or its content.
        mean: Mean of each channel, or None.
        std: Standard deviation of each channel, or None.
        check: Whether to look for pages and ranges; otherwise only files that are needed are read.

    Returns:
        The decoder with the number of bands, mean and std.

    Raises:
        DataError: The files have different numbers of bands, or none can be read, and their bands are needed.
        ValueError: mean or std does not fit the bands.
    """
    sample: Sample = {}
    for index in sample_of(count):
        file = name(index)
        if file not in sample and (decoder.bands or (check and file.lower().endswith(_DEEP))):
            content = source(index)
            if isinstance(content, bytes) or os.path.isfile(content):  # reading a pipe would wait
                sample[file] = content
    if check and decoder.range == "auto":
        _check_range(sample, decoder.max_pixels)
    if check and decoder.pages == "first":
        _check_pages(sample)
    if decoder.bands == "all":
        decoder = dataclasses.replace(decoder, channels=_common_bands(sample, decoder.max_pixels))
    if check and decoder.bands is None:
        _check_bands(sample, decoder.max_pixels)
    chosen = decoder.bands not in (None, "all", (0, 1, 2))  # not RGB, although there may be three of them
    if (chosen or decoder.channels not in (1, 3)) and (mean is None or std is None):
        computed = _statistics(decoder, sample)
        mean, std = mean or computed[0], std or computed[1]
    return (decoder, *checked_statistics(mean, std, decoder.channels))


def _check_range(sample: Sample, max_pixels: int) -> None:
    highest, example = 0, ""
    for name, source in sample.items():
        with contextlib.suppress(Exception):  # reported when the image is read
            pixels = _deep(source, max_pixels)
            if pixels is not None and int(pixels.max()) > highest:
                highest, example = int(pixels.max()), name
    if example and highest < 65536 // _EMPTY:
        warn(
            f"{example}: 16-bit values of a sample reach only {highest:,} of 65,535, so the images are nearly black: "
            f"set data.range=[0,{2 ** highest.bit_length() - 1}] or data.range=percentile"
        )


def _check_pages(sample: Sample) -> None:
    for name, source in sample.items():
        count = 1
        with contextlib.suppress(Exception):  # reported when the image is read
            if is_tiff(source):
                count = len(page_numbers(source))
        if count > 1:
            warn(f"{name} has {count} pages, but only the first page of files is read: set data.pages=all")
            return


def _check_bands(sample: Sample, max_pixels: int) -> None:
    """Refuses files whose bands are neither gray nor RGB, which could not be skipped like damaged ones."""
    for name, source in sample.items():
        bands = 0
        with contextlib.suppress(Exception):  # reported when the image is read
            bands = _extra_bands(source, max_pixels)
        if bands:
            raise DataError(
                f"{name} has {bands} bands, none of them marked as alpha: choose bands, such as data.bands=[0,1,2], or "
                "keep them with data.bands=all"
            )


def _extra_bands(source: str | bytes, max_pixels: int) -> int:
    """The number of bands of a file if it is neither gray nor RGB, with or without alpha; else 0."""
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


def _common_bands(sample: Sample, max_pixels: int) -> int:
    counts: dict[int, str] = {}
    for name, source in sample.items():
        with contextlib.suppress(Exception):
            counts.setdefault(_raw(source, max_pixels).shape[2], name)
    if len(counts) > 1:
        found = ", ".join(f"{name} has {bands}" for bands, name in counts.items())
        raise DataError(f"the images have different numbers of bands ({found}): choose some with data.bands")
    if not counts:
        raise DataError(_NONE_READABLE)
    return next(iter(counts))


def _statistics(decoder: Decoder, sample: Sample) -> tuple[Statistics, Statistics]:
    """Mean and std of each channel over the pixels of the files, in [0, 1]."""
    moments, problem = [], ""
    for name, source in sample.items():
        try:
            image = decoder.decode(source)
        except Exception as error:  # Pillow raises many types on damaged files
            problem = problem or f"{name}: {error}"
            continue
        pixels = image.double().flatten(1) / (1 if image.is_floating_point() else 255)
        moments.append(torch.stack([pixels.mean(1), pixels.square().mean(1)]))
    if not moments:
        raise DataError(_NONE_READABLE + (f" ({problem})" if problem else ""))
    mean, square = torch.stack(moments).mean(0)
    std = (square - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(torch.where(std > 0, std, 1.0).tolist())


def _deep(source: str | bytes, max_pixels: int) -> Array | None:
    """Returns the pixels of a file of integers with more than 8 bits, otherwise None."""
    if not is_array(source):
        with contextlib.suppress(UnidentifiedImageError), opened(source, max_pixels) as image:
            if bits_of(image, source) <= 8:
                return None
    pixels = _raw(source, max_pixels)
    return pixels if np.issubdtype(pixels.dtype, np.integer) and pixels.dtype.itemsize > 1 else None


def _raw(source: str | bytes, max_pixels: int) -> Array:
    if is_array(source):
        return raw_array(source)
    try:
        with opened(source, max_pixels) as image:
            return raw_pil(image, source, 0)[0]
    except UnidentifiedImageError:
        if not is_tiff(source):
            raise
        return raw_tiff(source, 0, max_pixels)[0]


def _is_tiff_name(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in (".tif", ".tiff")
