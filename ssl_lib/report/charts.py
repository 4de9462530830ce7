"""Computes line charts, which the macro `line_chart` of the templates draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ssl_lib.report.formats import format_number

__all__ = ["Figure", "Series", "line_chart", "thinned"]

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


@dataclass(frozen=True)
class Figure:
    """A chart, which is None if no value is finite, with its caption: title, last value, description and legend."""

    title: str
    series: Sequence[Series]
    chart: dict[str, Any] | None
    about: str = ""
    value: str = ""


@dataclass(frozen=True)
class _Axis:
    """Maps values to units of the SVG on a linear or logarithmic axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool

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


def line_chart(
    series: Sequence[Series], *, label: str, x_title: str = "", log_x: bool = False, log_y: bool = False
) -> dict[str, Any] | None:
    """Returns ticks, curves and readout of a chart, or None if no value is finite; `label` is for screen readers."""
    series = [thinned(one) for one in series]
    valid = [pair for one in series for pair in zip(one.x, one.y, strict=True) if _fits(*pair, log_x, log_y)]
    if not valid:
        return None
    x_axis = _axis([x for x, _ in valid], LEFT, RIGHT, log_x)
    y_axis = _axis([y for _, y in valid], BOTTOM, TOP, log_y, margin=0.06, least=_MIN_RANGE)
    return {
        "label": label,
        "x_title": x_title,
        "x_ticks": x_axis.ticks(),
        "y_ticks": y_axis.ticks(),
        "curves": [_curve(one, x_axis, y_axis) for one in series],
        "readout": [_readout(one, x_axis) for one in series],
    }


def thinned(series: Series) -> Series:
    """Reduces a curve to at most `_POINTS` points: the lowest and highest value of each of equal stretches."""
    count, stretches = len(series.x), _POINTS // 2 - 1
    if count <= _POINTS:
        return series
    kept: set[int] = {0, count - 1}
    order = [math.inf if math.isnan(value) else value for value in series.y]  # NaN is kept
    for number in range(stretches):
        part = range(number * count // stretches, (number + 1) * count // stretches)
        kept |= {min(part, key=order.__getitem__), max(part, key=order.__getitem__)}
    indices = sorted(kept)
    return replace(series, x=[series.x[i] for i in indices], y=[series.y[i] for i in indices])


def _fits(x: float, y: float, log_x: bool, log_y: bool) -> bool:
    return math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x) and (y > 0 or not log_y)


def _axis(
    values: Sequence[float], start: float, end: float, log: bool, margin: float = 0.0, least: float = 1e-9
) -> _Axis:
    """Returns an axis over the values with a margin; a linear axis has a least range, so that noise looks small."""
    low, high = (math.log10(v) if log else v for v in (min(values), max(values)))
    size = max(abs(low), abs(high))
    if high - low <= (1e-9 if log else least) * max(size, 1e-300):
        middle, length = (low + high) / 2, 0.05 * size or 2.0
        low, high = middle - length / 2, middle + length / 2
    padding = margin * (high - low)
    return _Axis(low - padding, high + padding, start, end, log)


def _curve(series: Series, x_axis: _Axis, y_axis: _Axis) -> dict[str, Any]:
    """Returns lines between adjacent finite values, dots for isolated values and crosses for NaN and infinity."""
    pieces: list[list[tuple[str, str]]] = [[]]
    crosses, dots = list[str](), list[tuple[str, str]]()
    for x, y in zip(series.x, series.y, strict=True):
        if _fits(x, y, x_axis.log, y_axis.log):
            pieces[-1].append((f"{x_axis(x):.1f}", f"{y_axis(y):.1f}"))
            dots += pieces[-1][-1:] if x in series.chosen else []
        else:
            pieces.append([])
            if not math.isfinite(y) and _fits(x, 1.0, x_axis.log, False):
                crosses.append(f"M{x_axis(x) - 4:.1f} {TOP}l8 8m0-8l-8 8")
    lines = [f"M{'L'.join(map(' '.join, piece))}" for piece in pieces if len(piece) > 1]
    dots += [piece[0] for piece in pieces if len(piece) == 1]
    radius = 4 if series.chosen else 2.5
    return {"style": series.style, "path": "".join(lines), "dots": dots, "radius": radius, "crosses": "".join(crosses)}


def _readout(series: Series, x_axis: _Axis) -> dict[str, Any]:
    """Returns rounded positions and values; the value of a NaN or infinity is None."""
    points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if _fits(x, 1.0, x_axis.log, False)]
    values = [float(f"{y:.5g}") if math.isfinite(y) else None for _, y in points]
    places = [round(x_axis(x)) for x, _ in points]
    return {"title": series.title, "at": places, "x": [x for x, _ in points], "y": values}
