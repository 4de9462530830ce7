"""Warnings that are shown once per process."""

from __future__ import annotations

import warnings

__all__ = ["forget_warnings", "warn_once"]

_SHOWN: set[str] = set()


def warn_once(message: str, category: type[Warning] = UserWarning) -> None:
    """Issues a warning unless the same message was issued before.

    Python's own record of shown messages is lost whenever a library changes the warning filters.
    """
    if message not in _SHOWN:
        _SHOWN.add(message)
        warnings.warn(message, category, stacklevel=3)


def forget_warnings() -> None:
    """Lets every message be shown again."""
    _SHOWN.clear()
