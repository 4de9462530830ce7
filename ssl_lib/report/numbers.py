"""Numbers for people."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ssl_lib.evaluation import Measure

__all__ = ["measured", "number_of", "shown"]


def shown(value: float) -> str:
    """Four digits, thousands with a comma: `12,000`, `0.0312`, `1.5e-05`; `not finite` for NaN and infinity."""
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def measured(measure: Measure, scores: Mapping[str, float]) -> str:
    """A figure of an evaluation as its table shows it, with its spread where there is one; a dash where it is none."""
    if measure.key not in scores:
        return "-"
    scale, unit = (100, "\u00a0%") if measure.percent else (1, "")
    value, spread = scores[measure.key], scores.get(f"{measure.key}_std")
    if not math.isfinite(value):
        return "not finite"
    beside = "" if spread is None else f" ±\u00a0{scale * spread:.{measure.digits}f}"
    return f"{scale * value:.{measure.digits}f}{beside}{unit}"


def number_of(value: object) -> float | None:
    """A number of a line of metrics; None for texts, truth values and nothing."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
