"""Computes line charts, which the macros `figure` and `line_chart` of the templates draw as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssl_lib.report.formats import format_number

__all__ = ["Series", "make_chart", "thinned"]

LEFT, RIGHT, TOP, BOTTOM = 46, 350, 10, 166  # edges of the plot, as in the macro
_POINTS = 400  # per curve at most
_MIN_RANGE = 0.05  # shortest y axis, as a fraction of its largest value


@dataclass(frozen=True)
class Series:
    """One curve with its CSS class. NaN and infinity leave a gap and a cross; dots mark the `chosen` values of `x`."""

    title: str
    x: Sequence[float]
    y: Sequence[float]
    style: str
    chosen: Sequence[float] = ()


class _Axis:
    """Maps values to units of the SVG on a linear or logarithmic axis.

    It spans the values with a margin, and on a linear scale at least a fraction of them, so that noise looks small.
    """

    def __init__(
        self, values: Sequence[float], ends: tuple[int, int], log: bool, margin: float = 0.0, least: float = 1e-9
    ) -> None:
        self.log, (self.start, self.end) = log, ends
        low, high = (math.log10(v) if log else v for v in (min(values), max(values)))
        size = max(abs(low), abs(high))
        if high - low <= (1e-9 if log else least) * max(size, 1e-300):
            middle, length = (low + high) / 2, 0.05 * size or 2.0
            low, high = middle - length / 2, middle + length / 2
        self.low, self.high = low - margin * (high - low), high + margin * (high - low)

    def __call__(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[tuple[str, str]]:
        """Returns round values, spaced by 1, 2 or 5 times a power of ten; powers of ten on a log axis."""
        if self.log:
            decades = range(math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9) + 1)
            every = max(1, -(-len(decades) // most))
            values = [10.0**power for power in decades if power % every == 0]
        else:
            raw = (self.high - self.low) / most
            scale = 10.0 ** math.floor(math.log10(raw))
            step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= raw * (1 - 1e-9))
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            values = [n * step for n in range(first, last + 1)]
        return [(f"{self(value):.1f}", format_number(value)) for value in values]


def make_chart(
    title: str, series: Sequence[Series], *, x_title: str = "", about: str = "", log: str = ""
) -> dict[str, Any]:
    """Returns title, description, legend, ticks, curves and readout of a chart; no curves if no value is finite.

    The axes in `log`, such as `xy`, are logarithmic; their values must be positive.
    """
    summaries = "; ".join(f"{one.title} " * (len(series) > 1) + _summary(one.y) for one in series if one.y)
    label = f"{title}{f' by {x_title}' if x_title else ''}: {summaries}"
    chart = {"title": title, "about": about, "series": series, "label": label, "x_title": x_title}
    series = [thinned(one) for one in series]
    valid = [pair for one in series for pair in zip(one.x, one.y, strict=True) if math.isfinite(pair[1])]
    if not valid:
        return {**chart, "curves": []}
    x_axis = _Axis([x for x, _ in valid], (LEFT, RIGHT), "x" in log)
    y_axis = _Axis([y for _, y in valid], (BOTTOM, TOP), "y" in log, margin=0.06, least=_MIN_RANGE)
    return {
        **chart,
        "x_ticks": x_axis.ticks(),
        "y_ticks": y_axis.ticks(),
        "curves": [_curve(one, x_axis, y_axis) for one in series],
        "readout": [_readout(one, x_axis) for one in series],
    }


def _summary(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    spread = f", between {format_number(min(finite))} and {format_number(max(finite))}" if finite else ""
    return f"from {format_number(values[0])} to {format_number(values[-1])}{spread}"


def thinned(series: Series) -> Series:
    """Reduces a curve to at most `_POINTS` points: the lowest and highest value of each of equal stretches."""
    if len(series.x) <= _POINTS:
        return series
    y = np.nan_to_num(np.asarray(series.y, np.float64), nan=np.inf)  # NaN is kept as the highest value
    stretches = np.array_split(np.arange(len(y)), _POINTS // 2 - 1)
    extremes = [stretch[[y[stretch].argmin(), y[stretch].argmax()]] for stretch in stretches]
    indices = np.unique([0, len(y) - 1, *np.concatenate(extremes)]).tolist()
    return replace(series, x=[series.x[i] for i in indices], y=[series.y[i] for i in indices])


def _curve(series: Series, x_axis: _Axis, y_axis: _Axis) -> dict[str, Any]:
    """Returns lines between adjacent finite values, dots for isolated values and crosses for NaN and infinity."""
    pieces: list[list[tuple[str, str]]] = [[]]
    crosses, dots = list[str](), list[tuple[str, str]]()
    for x, y in zip(series.x, series.y, strict=True):
        if math.isfinite(y):
            pieces[-1].append((f"{x_axis(x):.1f}", f"{y_axis(y):.1f}"))
            dots += pieces[-1][-1:] if x in series.chosen else []
        else:
            pieces.append([])
            crosses.append(f"M{x_axis(x) - 4:.1f} {TOP}l8 8m0-8l-8 8")
    lines = [f"M{'L'.join(map(' '.join, piece))}" for piece in pieces if len(piece) > 1]
    dots += [piece[0] for piece in pieces if len(piece) == 1]
    radius = 4 if series.chosen else 2.5
    return {"style": series.style, "path": "".join(lines), "dots": dots, "radius": radius, "crosses": "".join(crosses)}


def _readout(series: Series, x_axis: _Axis) -> dict[str, Any]:
    """Returns rounded positions and values; the value of a NaN or infinity is None."""
    values = [float(f"{y:.5g}") if math.isfinite(y) else None for y in series.y]
    return {"title": series.title, "at": [round(x_axis(x)) for x in series.x], "x": list(series.x), "y": values}
