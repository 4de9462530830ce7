"""Line charts as plain SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ssl_lib.report.html import Html, tag
from ssl_lib.report.numbers import shown

__all__ = ["Series", "line_chart", "thinned"]

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24
_POINTS = 400  # of a curve, at most
_LEAST = 0.05  # length of a y axis as a share of its values


@dataclass(frozen=True)
class Series:
    """One curve: a value per x; those that are not finite leave a gap and a mark.

    Attributes:
        title: In legends and read-outs.
        x: Places.
        y: As many values.
        style: A CSS class.
        chosen: Those of `x` that have a dot.
    """

    title: str
    x: Sequence[float]
    y: Sequence[float]
    style: str
    chosen: Sequence[float] = ()


@dataclass(frozen=True)
class _Axis:
    """From values to pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round values inside, one of 1, 2 or 5 times a power of ten apart; powers of ten where it is logarithmic."""
        if self.log:
            decades = range(math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9) + 1)
            every = max(1, -(-len(decades) // most))
            return [10.0**power for power in decades if power % every == 0]
        raw = (self.high - self.low) / most
        scale = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= raw * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def line_chart(series: Sequence[Series], *, label: str, x_title: str, log_x: bool = False, log_y: bool = False) -> Html:
    """Curves over common axes, whose values a pointer or the arrow keys read out; `label` says what is to be seen."""
    series = [thinned(one) for one in series]
    good = [pair for one in series for pair in zip(one.x, one.y, strict=True) if _fits(*pair, log_x, log_y)]
    if not good:
        return tag("p", "No value is a finite number.", class_="note")
    x_axis = _axis([x for x, _ in good], LEFT, WIDTH - RIGHT, log_x)
    y_axis = _axis([y for _, y in good], HEIGHT - BOTTOM, TOP, log_y, margin=0.06, least=_LEAST)
    curves = [_curve(one, x_axis, y_axis) for one in series]
    end = tag("text", x_title, x=0, y=HEIGHT - 9, class_="tick") if x_title else None
    cursor = tag("line", class_="cursor", y1=TOP, y2=HEIGHT - BOTTOM, x1=-9, x2=-9)
    return tag(
        "svg", _grid(x_axis, y_axis), end, curves, cursor,
        class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label, tabindex=0,
        data_curves=_payload(series, x_axis, log_x),
    )  # fmt: skip


def thinned(series: Series) -> Series:
    """At most so many points, of which the lowest and highest of every stretch are kept."""
    count = len(series.x)
    if count <= _POINTS:
        return series
    kept: set[int] = {0, count - 1}
    stretches = _POINTS // 2 - 1
    for number in range(stretches):
        part = range(number * count // stretches, (number + 1) * count // stretches)
        kept |= {min(part, key=lambda i: _order(series.y[i])), max(part, key=lambda i: _order(series.y[i]))}
    places = sorted(kept)
    return replace(series, x=[series.x[i] for i in places], y=[series.y[i] for i in places])


def _order(value: float) -> float:
    """NaN counts as the highest, so that it is kept."""
    return math.inf if math.isnan(value) else value


def _fits(x: float, y: float, log_x: bool, log_y: bool) -> bool:
    return math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x) and (y > 0 or not log_y)


def _axis(
    values: Sequence[float], start: float, end: float, log: bool, margin: float = 0.0, least: float = 1e-9
) -> _Axis:
    """From the lowest to the highest value and a margin; a linear one has a least length, lest noise look large."""
    low, high = (math.log10(v) if log else v for v in (min(values), max(values)))
    size = max(abs(low), abs(high))
    if high - low <= (1e-9 if log else least) * max(size, 1e-300):
        middle, length = (low + high) / 2, 0.05 * size or 2.0
        low, high = middle - length / 2, middle + length / 2
    room = margin * (high - low)
    return _Axis(low - room, high + room, start, end, log)


def _grid(x_axis: _Axis, y_axis: _Axis) -> list[Html]:
    marks = []
    for value in y_axis.ticks(5):
        y = f"{y_axis(value):.1f}"
        marks.append(tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        marks.append(tag("text", shown(value), class_="tick end", x=LEFT - 5, y=f"{y_axis(value) + 3.5:.1f}"))
    for value in x_axis.ticks(5):
        marks.append(tag("text", shown(value), class_="tick middle", x=f"{x_axis(value):.1f}", y=HEIGHT - 9))
    marks.append(tag("line", class_="axis", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM))
    return marks


def _curve(series: Series, x_axis: _Axis, y_axis: _Axis) -> Html:
    """Lines between neighboring finite values, dots where one stands alone, crosses where one is not finite."""
    pieces: list[list[str]] = [[]]
    bad, dots = list[str](), list[list[str]]()
    for x, y in zip(series.x, series.y, strict=True):
        if _fits(x, y, x_axis.log, y_axis.log):
            pieces[-1].append(f"{x_axis(x):.1f} {y_axis(y):.1f}")
            if x in series.chosen:
                dots.append(pieces[-1][-1].split())
        else:
            pieces.append([])
            if not math.isfinite(y) and _fits(x, 1.0, x_axis.log, False):
                bad.append(f"M{x_axis(x) - 4:.1f} {TOP}l8 8m0-8l-8 8")
    lines = [f"M{'L'.join(piece)}" for piece in pieces if len(piece) > 1]
    dots += [piece[0].split() for piece in pieces if len(piece) == 1]
    return tag(
        "g",
        tag("path", d="".join(lines)) if lines else None,
        [tag("circle", cx=x, cy=y, r=4 if series.chosen else 2.5) for x, y in dots],
        tag("path", d="".join(bad), class_="bad") if bad else None,
        class_=f"curve {series.style}",
    )


def _payload(series: Sequence[Series], x_axis: _Axis, log_x: bool) -> str:
    """What the page's script needs to read values out."""
    curves = []
    for one in series:
        points = [(x, y) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(x) and (x > 0 or not log_x)]
        places = [round(x_axis(x)) for x, _ in points]
        values = [float(f"{y:.5g}") if math.isfinite(y) else None for _, y in points]
        curves.append({"title": one.title, "at": places, "x": [x for x, _ in points], "y": values})
    return json.dumps(curves, separators=(",", ":"), ensure_ascii=False)
