"""Pages of TIFF files: which there are, and a warning if only the first ones are read."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence

from ssl_lib.data.base import warn
from ssl_lib.data.io.decode import Decoder
from ssl_lib.data.io.sample import Sample
from ssl_lib.data.io.tiff import is_tiff, page_numbers
from ssl_lib.errors import DataError
from ssl_lib.utils.files import check_regular

__all__ = ["pages_of", "report_pages"]


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


def report_pages(sample: Sample) -> None:
    """Warns of the first file of a sample that has several pages."""
    for name, source in sample.items():
        count = 1
        with contextlib.suppress(Exception):  # reported when the image is read
            if isinstance(source, str | bytes) and is_tiff(source):
                count = len(page_numbers(source))
        if count > 1:
            warn(f"{name} has {count} pages, but only the first page of files is read: set data.pages=all")
            return


def _is_tiff_name(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in (".tif", ".tiff")
