"""Progress bars on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

__all__ = ["progress_bar"]


def progress_bar(
    items: Iterable[Any] | None = None,
    title: str | None = None,
    *,
    total: int | None = None,
    initial: int = 0,
    unit: str = "it",
    unit_scale: bool = False,
    leave: bool = False,
    show: bool = True,
) -> tqdm[Any]:
    """Returns tqdm's bar, which appears only if stderr is a terminal; a missing (None) or closed stderr is no error.

    Args:
        items: Items to iterate over; None for a bar that `update` moves.
        title: Text before the bar.
        total: Number of units; None is the number of items.
        initial: Number of units that are done already.
        unit: Name of a unit.
        unit_scale: Whether to shorten large numbers.
        leave: Whether the bar stays when it is complete.
        show: Whether to show the bar at all.
    """
    options: dict[str, Any] = {"initial": initial, "unit": unit, "unit_scale": unit_scale}
    return tqdm(items, title, total, leave=leave, disable=not (show and _on_terminal()), **options)


def _on_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed by Python code
        return False
