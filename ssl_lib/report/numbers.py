"""Numbers for people."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ssl_lib.evaluation import Metric

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


def measured(measure: Metric, scores: Mapping[str, float]) -> str:
    """A figure of an evaluation as its table in the terminal shows it, in the signs of a page."""
    return measure.shown(scores).replace(" +- ", " ±\u00a0").replace(" %", "\u00a0%")


def number_of(value: object) -> float | None:
    """A number of a line of metrics; None for texts, truth values and nothing."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
