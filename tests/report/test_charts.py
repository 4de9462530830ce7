"""Line charts as SVG."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssl_lib.report.charts import Series, make_chart, thinned
from ssl_lib.report.page import render_template
from tests.report.page import Page


def svg_of(series, **options):
    """Returns the parsed SVG of a chart."""
    chart = make_chart("<x>", series, **options)
    return Page(render_template("spectrum", runs=[], series=series, chart=chart, rows=[], sources=["a"]))


def paths_of(page):
    """Returns the points of each line of the curves, without the legend and the crosses."""
    paths = [a["d"] for name, a in page.elements if name == "path" and "class" not in a and "H" not in a["d"]]
    return [[tuple(map(float, point.split())) for point in line.split("L")] for d in paths for line in d.split("M")[1:]]


def test_long_curves_keep_their_extremes():
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).tolist()
    values[5000], values[7000] = 99.0, -99.0
    few = thinned(Series("a", range(10_000), values, ""))
    assert len(few.x) <= 400 and {99.0, -99.0} <= set(few.y)
    assert all(values[int(x)] == y for x, y in zip(few.x, few.y, strict=True))
    assert few.x[0] == 0 and few.x[-1] == 9999 and list(few.x) == sorted(few.x)


def test_curve_has_a_gap_at_nan():
    page = svg_of([Series("a", [0, 1, 2, 3, 4], [1, 2, math.nan, 3, 5], "")], x_title="step")
    lines = [line for line in paths_of(page) if len(line) > 1]
    assert [len(line) for line in lines] == [2, 2]
    points = [*lines[0], *lines[1]]
    assert points[0][0] == 46 and points[-1][0] == 350  # left and right edge of the plot
    heights = np.array([y for _, y in points])
    assert np.allclose(heights, heights[0] + (heights[-1] - heights[0]) * (np.array([1, 2, 3, 5]) - 1) / 4, atol=0.11)
    labels = [a.get("aria-label") for name, a in page.elements if name == "svg"]
    assert "<x> by step: from 1 to 5, between 1 and 5" in labels
    assert page.curves()[0][0]["y"] == [1, 2, None, 3, 5]
    assert "No value" in svg_of([Series("a", [0], [math.inf], "")]).text()


def test_noise_of_a_nearly_constant_metric_looks_small():
    (line,) = paths_of(svg_of([Series("a", [0, 1, 2], [0.0880, 0.0881, 0.0880], "")]))
    heights = [y for _, y in line]
    assert 1 < max(heights) - min(heights) < 10  # of 156 units


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0], [1e-12, 2e-12], [-5e9, 7e9]])
def test_axis_handles_constant_tiny_and_huge_ranges(values):
    page = svg_of([Series("a", range(len(values)), values, "")])
    places = [value or "" for name, a in page.elements if name in ("line", "path", "circle") for value in a.values()]
    assert not any("nan" in place for place in places)
    assert 1 <= sum(a.get("class") == "grid" for _, a in page.elements) <= 12
