"""Exceptions for user errors; each message names the key, file or value and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "NonFiniteLossError",
    "SSLError",
    "closest",
    "did_you_mean",
    "listed",
]


class SSLError(Exception):
    """Base class of all errors that `ssl-lib` prints as one message, without a traceback."""


class ConfigError(SSLError, ValueError):
    """A config key or value is unknown, of the wrong type or out of range."""


class DataError(SSLError):
    """Images are missing, unreadable or too few."""


class CheckpointError(SSLError):
    """A checkpoint is missing, damaged or does not match the run."""


class NonFiniteLossError(SSLError, ArithmeticError):
    """The loss, a gradient or a weight became NaN or infinite."""


def did_you_mean(word: str, known: Iterable[str], section: str = "") -> str:
    """Returns the end of an error message: the closest known word, if any, and all known words if there are few.

    Args:
        word: The unknown word.
        known: The known words.
        section: Section of a config in which the words are keys; the suggestion is a full key such as `optimizer.lr`.
    """
    words = sorted(map(str, known))
    close = closest(str(word), words)
    hint = f" Did you mean {'.'.join(filter(None, (section, close)))!r}?" if close else ""
    if len(words) <= 24:
        return f"{hint} Known: {', '.join(words)}." if words else f"{hint} None are known here."
    return hint or f" {len(words)} names are known: see `ssl-lib list`."


def closest(word: str, known: Iterable[str]) -> str:
    """Returns the known word that is closest to a misspelled one; empty if none is close."""
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.5)), "")


def listed(names: Iterable[object], most: int = 6) -> str:
    """Joins the first names with commas and adds an ellipsis if there are more."""
    texts = list(map(str, names))
    return ", ".join(texts[:most]) + (", ..." if len(texts) > most else "")
