"""Queries and their neighbors as a picture."""

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

_SIDE, _GAP, _FRAME, _LINE, _TEXT = 140, 14, 3, 17, 13  # pixels; five for each of a 28 pixel image
_COLUMNS = 10  # of neighbors; more go on below
_QUERY, _PLAIN, _QUIET, _OTHER = "#1d4ed8", "#111111", "#666666", "#b91c1c"
_FONTS = ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf", "arial.ttf")  # for more than ASCII
_LEGEND = "red: another label than the query's"


class Shown(NamedTuple):
    """An image of the picture, and what is said of it.

    Attributes:
        image: uint8 (C, H, W).
        path: In the table.
        label: The name of its class; empty where there is none.
        cosine: To the query; None for the query itself.
    """

    image: Tensor
    path: str
    label: str = ""
    cosine: float | None = None


def draw_neighbors(rows: Sequence[Sequence[Shown]]) -> Image.Image:
    """Draws a row per query: the query in a frame, then its neighbors, ten a line, each above what is said of it.

    That is the cosine and the label, in red where it is not the query's; the folder, where it says more than the label;
    and the name of the file. Long texts are shortened in the middle.

    Args:
        rows: Of each the query first.
    """
    font = _font("".join(shown.path + shown.label for row in rows for shown in row))
    folders = any(_folder(shown.path) not in ("", shown.label) for row in rows for shown in row)
    mixed = any(_differs(shown, row[0]) for row in rows for shown in row)
    wide, tall = _SIDE + _GAP, _SIDE + (3 if folders else 2) * _LINE + 2 * _GAP
    lines = [max(1, -(-(len(row) - 1) // _COLUMNS)) for row in rows]
    columns = 1 + max(min(len(row) - 1, _COLUMNS) for row in rows)
    size = columns * wide + 2 * _GAP, sum(lines) * tall + _GAP + (_LINE if mixed else 0)
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    top = _GAP
    for row, count in zip(rows, lines, strict=True):
        for place, shown in enumerate(row):
            line, column = divmod(place - 1, _COLUMNS) if place else (0, -1)
            corner = _GAP + (column + 1) * wide + (_GAP if place else 0), top + line * tall
            picture.paste(thumbnail(shown.image, _SIDE, "#f3f3f3"), corner)
            _caption(pen, font, corner, shown, row[0], folders)
        top += count * tall
    if mixed:
        pen.text((_GAP, size[1] - _LINE - _GAP // 2), _LEGEND, _OTHER, font)
    return picture


def _caption(
    pen: ImageDraw.ImageDraw, font: Font, corner: tuple[int, int], shown: Shown, query: Shown, folders: bool
) -> None:
    left, top = corner
    said, color = ("query", _QUERY) if shown.cosine is None else (f"{shown.cosine:.3f}", _PLAIN)
    if shown.cosine is None:
        frame = (left - _FRAME, top - _FRAME, left + _SIDE + _FRAME - 1, top + _SIDE + _FRAME - 1)
        pen.rectangle(frame, outline=_QUERY, width=_FRAME)
    top += _SIDE + _FRAME + 1
    pen.text((left, top), said, color, font)
    indent = round(font.getlength(f"{said}  "))
    label_color = _OTHER if _differs(shown, query) else _PLAIN
    pen.text((left + indent, top), _short(shown.label, font, _SIDE - indent), label_color, font)
    name = shown.path.rpartition("/")[2]
    for number, text in enumerate([_folder(shown.path), name] if folders else [name], start=1):
        pen.text((left, top + number * _LINE), _short(text, font, _SIDE), _QUIET, font)


def _differs(shown: Shown, query: Shown) -> bool:
    return shown.label != query.label


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _short(text: str, font: Font, width: int) -> str:
    """A text that is at most so many pixels wide, with an ellipsis in its middle where it was longer."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if not isinstance(font, ImageFont.FreeTypeFont) or font.getname()[0] == "Aileron":  # has little but ASCII
        text = "".join(unicodedata.normalize("NFKD", letter)[0] for letter in text).encode("ascii", "replace").decode()
    if font.getlength(text) <= width:
        return text
    kept = next(kept for kept in range(len(text) - 1, -1, -1) if font.getlength(_middle_out(text, kept)) <= width)
    return _middle_out(text, kept)


def _middle_out(text: str, kept: int) -> str:
    return f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"


def _font(texts: str) -> Font:
    """Pillow's own; one of the system's, where there are letters that only such a one has."""
    for name in () if texts.isascii() else _FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, _TEXT)
    return ImageFont.load_default(_TEXT)
