"""The image formats that can be read, by the ending of the file name."""

from __future__ import annotations

import functools
import importlib.util

from PIL import features

from ssl_lib.utils.optional import missing_package

__all__ = ["EXTENSIONS", "PILLOW_FORMATS", "ending", "extensions", "hint"]

EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ico"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".npy", ".npz"),
)
"""Endings that can always be read."""

_JPEG_2000 = (".jp2", ".j2k", ".jpx")
_AVIF = (".avif",)
_HEIF = (".heic", ".heif")

# Pillow detects the format from the content. Other formats are disabled, such as EPS, which runs Ghostscript.
PILLOW_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "ICO", "PPM", "JPEG2000", "AVIF", "HEIF")


@functools.cache
def extensions() -> tuple[str, ...]:
    """The endings that can be read on this machine: `EXTENSIONS` and what the installed Pillow and extras add."""
    return (
        *EXTENSIONS,
        *(_JPEG_2000 if features.check("jpg_2000") else ()),
        *(_AVIF if features.check("avif") else ()),
        *(_HEIF if importlib.util.find_spec("pillow_heif") else ()),
    )


def ending(name: str) -> str:
    """The ending of a file name in lower case, with the dot; "no ending" without one."""
    stem, dot, last = name.rpartition(".")
    return f".{last.lower()}" if dot and stem else "no ending"


def hint(endings: set[str]) -> str:
    """How to read files with endings that are not in `extensions`; empty if there is no way."""
    if endings & set(_HEIF):
        return f"; a .heic or .heif file {missing_package('ssl_lib[heic]')}"
    missing = endings & {*_JPEG_2000, *_AVIF}
    return f"; to read {', '.join(sorted(missing))}, install a newer Pillow" if missing else ""
