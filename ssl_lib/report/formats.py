"""Formats numbers, metrics and names for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ssl_lib.evaluation import Metric

__all__ = ["class_name", "format_metric", "format_number", "run_style", "style_of"]


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
