"""Queries and their neighbours as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from ssl_lib.views.picture import CELL, thumbnail

__all__ = ["draw_neighbours"]

_GAP, _LINE, _LETTER = 6, 13, 6  # pixels


def draw_neighbours(rows: Sequence[Sequence[tuple[Tensor, str]]]) -> Image.Image:
    """Draws a row per query, on white: the query, then its neighbours, each above its caption.

    Args:
        rows: Of each an image, uint8 (C, H, W), and a caption of one or more lines.
    """
    lines = max(caption.count("\n") + 1 for row in rows for _, caption in row)
    wide, tall = CELL + _GAP, CELL + lines * _LINE + _GAP
    columns = max(map(len, rows))
    picture = Image.new("RGB", (columns * wide + 2 * _GAP, len(rows) * tall + _GAP), "white")
    pen = ImageDraw.Draw(picture)
    for y, row in enumerate(rows):
        for x, (image, caption) in enumerate(row):
            left, top = _GAP + x * wide + (_GAP if x else 0), _GAP + y * tall
            picture.paste(thumbnail(image), (left, top))
            shown = "\n".join(line[-(CELL // _LETTER) :] for line in caption.splitlines())
            text = shown.encode("latin-1", "replace").decode("latin-1")  # all that every font of Pillow's has
            pen.multiline_text((left, top + CELL), text, "dimgrey" if x else "black", spacing=1)
    return picture
