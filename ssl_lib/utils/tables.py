"""Plain text tables for a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

__all__ = ["terminal_width", "text_table"]

_GAP = 2


def text_table(rows: Sequence[Sequence[str]], left: int = 1, width: int | None = None) -> str:
    """Formats aligned columns, with the first row as headings above a rule.

    Args:
        rows: Cells of each row; all rows have the same number of cells.
        left: Number of left-aligned columns; the columns after them are right-aligned.
        width: Largest line width. Columns that do not fit continue in further tables, which repeat the left-aligned
            columns. None sets no limit.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    names, parts = list(range(left)), [list[int]()]
    for column in range(left, len(widths)):
        together = [*names, *parts[-1], column]
        length = sum(widths[index] + _GAP for index in together) - _GAP
        if parts[-1] and width is not None and length > width:
            parts.append([])
        parts[-1].append(column)
    return "\n\n".join(_table(rows, widths, names, part) for part in parts)


def terminal_width() -> int | None:
    """Characters per line of the terminal; None if the output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _table(rows: Sequence[Sequence[str]], widths: Sequence[int], left: Sequence[int], right: Sequence[int]) -> str:
    lines = []
    for row in rows:
        cells = [*(row[c].ljust(widths[c]) for c in left), *(row[c].rjust(widths[c]) for c in right)]
        lines.append((" " * _GAP).join(cells).rstrip())
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
