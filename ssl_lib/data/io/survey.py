"""Looks at a sample of a data set's images, to find what would otherwise go unnoticed until training has ended."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image

from ssl_lib.data.base import checked_statistics, warn
from ssl_lib.data.io.decode import Decoder
from ssl_lib.data.io.pages import report_pages
from ssl_lib.data.io.sample import DEEP, Sample, Source
from ssl_lib.data.io.stored import extra_bands, may_be_deep, stored_colors, stored_pixels
from ssl_lib.errors import DataError

__all__ = ["check_range", "sampled", "survey"]

Statistics: TypeAlias = tuple[float, ...]

_NONE_READABLE = "no file of a sample can be read, so the bands and their mean and std are not known"
_EMPTY = 4  # values that reach less than a quarter of the range use at most six of eight bits
_FEW = 4  # ordinary pictures that are read to see whether a given range fits them
_PIXELS = 2**18  # of an image, evenly spaced, whose values are judged
_BRIGHT = 99.9  # percentile; the values above it may be defective pixels


def sampled(
    positions: Iterable[int], name: Callable[[int], str], source: Callable[[int], str | bytes], decoder: Decoder
) -> Sample:
    """Returns the files of a sample that can tell more than an ordinary picture; all for bands, a few for a range."""
    sample: dict[str, str | bytes] = {}
    ordinary = 0
    for index in positions:
        file = name(index)
        special = decoder.bands is not None or file.lower().endswith(DEEP)
        if not special and isinstance(decoder.range, tuple) and ordinary < _FEW:
            special, ordinary = True, ordinary + 1
        if file not in sample and special:
            content = source(index)
            if isinstance(content, bytes) or os.path.isfile(content):  # reading a pipe would wait
                sample[file] = content
    return sample


def survey(
    decoder: Decoder, sample: Sample, mean: Statistics | None, std: Statistics | None, *, check: bool = True
) -> tuple[Decoder, Statistics, Statistics]:
    """Finds the number of bands, if all are kept; mean and std, if they are needed; and reports pages and ranges.

    Args:
        decoder: The decoder of the images.
        sample: Some of the images.
        mean: Mean of each channel, or None.
        std: Standard deviation of each channel, or None.
        check: Whether to look for pages and ranges.

    Returns:
        The decoder with the number of bands, mean and std.

    Raises:
        DataError: The images have different numbers of bands, or none can be read, and their bands are needed.
        ValueError: mean or std does not fit the bands.
    """
    if check:
        check_range(sample, decoder)
    if check and decoder.pages == "first":
        report_pages(sample)
    if decoder.bands == "all":
        decoder = dataclasses.replace(decoder, channels=_common_bands(sample, decoder.max_pixels))
    if check and decoder.bands is None:
        _check_bands(sample, decoder.max_pixels)
    chosen = decoder.bands not in (None, "all", (0, 1, 2))  # not RGB, although there may be three of them
    if (chosen or decoder.channels not in (1, 3)) and (mean is None or std is None):
        computed = _statistics(decoder, sample)
        mean, std = mean or computed[0], std or computed[1]
    return (decoder, *checked_statistics(mean, std, decoder.channels))


def check_range(sample: Sample, decoder: Decoder) -> None:
    """Warns if the images of a sample become nearly black or white; those of 8 bits and of more are judged apart."""
    if decoder.range == "percentile":
        return
    values = defaultdict[int, list[tuple[float, float, float, str]]](list)
    for name, source in sample.items():
        with contextlib.suppress(Exception):  # reported when the image is read
            if decoder.range == "auto" and not may_be_deep(source, decoder.max_pixels):
                continue
            pixels = stored_colors(source, decoder.max_pixels)
            if (
                pixels is not None
                and pixels.min() >= 0 < pixels.max()
                and (pixels.itemsize > 1 or decoder.range != "auto")
            ):
                step = max(1, math.isqrt(pixels.shape[0] * pixels.shape[1] // _PIXELS))
                middle, bright = np.percentile(pixels[::step, ::step], (50, _BRIGHT))
                values[pixels.itemsize].append((float(bright), float(pixels.max()), float(middle), name))
    for size, found in values.items():
        if decoder.range == "auto":
            _report_auto(found)
        else:
            _report_given(found, decoder.range, 8 * size)


def _report_auto(found: Sequence[tuple[float, float, float, str]]) -> None:
    bright, _, _, example = max(found)
    highest = max(largest for _, largest, _, _ in found)
    if bright >= 65536 // _EMPTY:
        return
    few = f", but for {highest:,.0f} in few pixels" if highest >= 65536 // _EMPTY else ""
    reached = bright if few else highest
    top = 2 ** max(1, int(reached).bit_length()) - 1
    warn(
        f"{example}: 16-bit values of a sample reach only {reached:,.0f} of 65,535{few}, so the images are nearly "
        f"black: set data.range=[0,{top}] or data.range=percentile"
    )


def _report_given(found: Sequence[tuple[float, float, float, str]], limits: tuple[float, float], bits: int) -> None:
    low, high = limits
    bright, _, _, example = max(found)
    middle = min(middle for _, _, middle, _ in found)
    fix = "set another data.range, or data.range=percentile, or leave them out with data.exclude"
    if bright < low + (high - low) / _EMPTY:
        warn(
            f"{example}: {bits}-bit values of a sample reach only {bright:,.0f}, so with data.range=[{low:g},{high:g}] "
            f"these images are nearly black: {fix}"
        )
    elif middle >= high:
        warn(
            f"{example}: most {bits}-bit values of a sample are at least {middle:,.0f}, so with "
            f"data.range=[{low:g},{high:g}] these images are nearly white: {fix}"
        )


def _check_bands(sample: Sample, max_pixels: int) -> None:
    """Refuses files whose bands are neither gray nor RGB, which could not be skipped like damaged ones."""
    for name, source in sample.items():
        bands = 0
        with contextlib.suppress(Exception):  # reported when the image is read
            bands = extra_bands(source, max_pixels)
        if bands:
            raise DataError(
                f"{name} has {bands} bands, none of them marked as alpha: choose bands, such as data.bands=[0,1,2], or "
                "keep them with data.bands=all"
            )


def _common_bands(sample: Sample, max_pixels: int) -> int:
    counts, problem = dict[int, str](), ""
    for name, source in sample.items():
        try:
            counts.setdefault(stored_pixels(source, max_pixels)[0].shape[2], name)
        except Exception as error:  # reported when the image is read
            problem = problem or f" ({name}: {error})"
    if len(counts) > 1:
        found = ", ".join(f"{name} has {bands}" for bands, name in counts.items())
        raise DataError(f"the images have different numbers of bands ({found}): choose some with data.bands")
    if not counts:
        raise DataError(f"{_NONE_READABLE}{problem}")
    return next(iter(counts))


def _statistics(decoder: Decoder, sample: Sample) -> tuple[Statistics, Statistics]:
    """Mean and std of each channel over the pixels of the images, in [0, 1]."""
    moments, problem = [], ""
    for name, source in sample.items():
        try:
            image = _decoded(decoder, source)
        except Exception as error:  # Pillow raises many types on damaged files
            problem = problem or f" ({name}: {error})"
            continue
        pixels = image.double().flatten(1) / (1 if image.is_floating_point() else 255)
        moments.append(torch.stack([pixels.mean(1), pixels.square().mean(1)]))
    if not moments:
        raise DataError(f"{_NONE_READABLE}{problem}")
    mean, square = torch.stack(moments).mean(0)
    std = (square - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(torch.where(std > 0, std, 1.0).tolist())


def _decoded(decoder: Decoder, source: Source) -> torch.Tensor:
    if isinstance(source, str | bytes):
        return decoder.decode(source)
    return decoder.picture(source) if isinstance(source, Image.Image) else decoder.array(np.atleast_3d(source))
