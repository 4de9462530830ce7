"""Formats numbers, metrics, names and unusual characters for the report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_lib.evaluation import Metric

__all__ = ["class_name", "format_metric", "format_number", "run_style", "style_of", "visible"]

_NOT_TEXT = re.compile("[\0-\b\v-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")
"""Control characters except tabs and line feeds, changes of the text direction, and what UTF-8 cannot encode."""


def visible(value: Any) -> Any:
    r"""Replaces characters that are not text by escapes, in a string or in all strings of JSON data.

    A byte of a file name that is not UTF-8 becomes `\xff`, the escape character `\x1b`, and a right-to-left override
    `\u202e`. Other values are returned unchanged.
    """
    if isinstance(value, str):  # or Markup, which remains Markup
        return type(value)(_NOT_TEXT.sub(_escape, value)) if _NOT_TEXT.search(value) else value
    if isinstance(value, dict):
        return {visible(key): visible(entry) for key, entry in value.items()}
    return [visible(entry) for entry in value] if isinstance(value, list | tuple) else value


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python's surrogate escape for an invalid byte
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def format_number(value: float) -> str:
    """Formats with four digits and thousands separators: `12,000`, `0.0312`, `1.5e-05`; NaN is `not finite`."""
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def format_metric(measure: Metric, scores: Mapping[str, float]) -> str:
    """Formats an evaluation metric as the terminal table does, with typographic signs and non-breaking spaces."""
    return measure.shown(scores).replace(" +- ", " ±\u00a0").replace(" %", "\u00a0%")


def class_name(names: Sequence[str], label: int) -> str:
    """Returns the class name of a label, or `class N` if it has none."""
    return names[label] if label < len(names) else f"class {label}"


def style_of(subject: str) -> str:
    """Returns the CSS class of raw pixels, random weights or trained weights."""
    return {"raw pixels": "raw", "random init": "random"}.get(subject, "trained")


def run_style(number: int) -> str:
    """Returns the CSS class of a run in a report of several."""
    return f"run{number % 6}"
