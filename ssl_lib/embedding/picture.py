"""Draws queries and their nearest neighbors as an image grid."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ssl_lib.views.image_grid import thumbnail

__all__ = ["Shown", "draw_neighbors"]

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SIDE, _GAP, _FRAME, _LINE, _TEXT = 140, 14, 3, 17, 13  # pixels; 140 is 5 x 28, an integer scale for 28-pixel images
_COLUMNS = 10  # neighbors per line; more neighbors continue on the next line
_QUERY, _PLAIN, _QUIET, _OTHER = "#1d4ed8", "#111111", "#666666", "#b91c1c"
_FONTS = ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf", "arial.ttf")  # fonts for non-ASCII text
_LEGEND = "red: label differs from the query"


class Shown(NamedTuple):
    """An image of the grid with its caption.

    Attributes:
        image: uint8 (C, H, W).
        path: Path of the image in the table.
        label: Class name; empty if there is none.
        cosine: Cosine similarity to the query; None for the query itself.
    """

    image: Tensor
    path: str
    label: str = ""
    cosine: float | None = None


def draw_neighbors(rows: Sequence[Sequence[Shown]]) -> Image.Image:
    """Draws one row per query: the framed query, then its neighbors, ten per line, each with a caption below.

    The caption has the cosine, the label (red if it differs from the query's), the folder if it is not just the label,
    and the file name. Long texts are shortened in the middle.

    Args:
        rows: One row per query; the first image of a row is the query.
    """
    font = _font("".join(item.path + item.label for row in rows for item in row))
    folders = any(item.path.rpartition("/")[0] not in ("", item.label) for row in rows for item in row)
    mixed = any(item.label != row[0].label for row in rows for item in row)
    wide, tall = _SIDE + _GAP, _SIDE + (3 if folders else 2) * _LINE + 2 * _GAP
    lines = [max(1, -(-(len(row) - 1) // _COLUMNS)) for row in rows]
    columns = 1 + max(min(len(row) - 1, _COLUMNS) for row in rows)
    size = columns * wide + 2 * _GAP, sum(lines) * tall + _GAP + (_LINE if mixed else 0)
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    top = _GAP
    for row, count in zip(rows, lines, strict=True):
        for place, item in enumerate(row):
            line, column = divmod(place - 1, _COLUMNS) if place else (0, -1)
            corner = _GAP + (column + 1) * wide + (_GAP if place else 0), top + line * tall
            picture.paste(thumbnail(item.image, _SIDE, "#f3f3f3"), corner)
            _caption(pen, font, corner, item, row[0], folders)
        top += count * tall
    if mixed:
        pen.text((_GAP, size[1] - _LINE - _GAP // 2), _LEGEND, _OTHER, font)
    return picture


def _caption(
    pen: ImageDraw.ImageDraw, font: Font, corner: tuple[int, int], item: Shown, query: Shown, folders: bool
) -> None:
    left, top = corner
    title, color = ("query", _QUERY) if item.cosine is None else (f"{item.cosine:.3f}", _PLAIN)
    if item.cosine is None:
        frame = (left - _FRAME, top - _FRAME, left + _SIDE + _FRAME - 1, top + _SIDE + _FRAME - 1)
        pen.rectangle(frame, outline=_QUERY, width=_FRAME)
    top += _SIDE + _FRAME + 1
    pen.text((left, top), title, color, font)
    indent = round(font.getlength(f"{title}  "))
    label_color = _OTHER if item.label != query.label else _PLAIN
    pen.text((left + indent, top), _short(item.label, font, _SIDE - indent), label_color, font)
    folder, _, name = item.path.rpartition("/")
    for number, text in enumerate([folder, name] if folders else [name], start=1):
        pen.text((left, top + number * _LINE), _short(text, font, _SIDE), _QUIET, font)


def _short(text: str, font: Font, width: int) -> str:
    """Shortens a text to at most `width` pixels, with an ellipsis in the middle; replaces unprintable letters."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if not isinstance(font, ImageFont.FreeTypeFont) or font.getname()[0] == "Aileron":  # Aileron has almost only ASCII
        text = "".join(unicodedata.normalize("NFKD", letter)[0] for letter in text).encode("ascii", "replace").decode()
    if font.getlength(text) <= width:
        return text
    kept = next(kept for kept in range(len(text) - 1, -1, -1) if font.getlength(_middle_out(text, kept)) <= width)
    return _middle_out(text, kept)


def _middle_out(text: str, kept: int) -> str:
    return f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"


def _font(texts: str) -> Font:
    """Pillow's default font for ASCII texts; otherwise a system font, if one of `_FONTS` is installed."""
    for name in () if texts.isascii() else _FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, _TEXT)
    return ImageFont.load_default(_TEXT)
