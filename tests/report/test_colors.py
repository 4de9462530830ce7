"""Contrast of the colors of the report, and their distances with each type of color vision."""

from __future__ import annotations

import itertools
import re
from importlib import resources

import numpy as np
import pytest

STYLE = (resources.files("ssl_lib.report") / "assets" / "style.css").read_text("utf-8")


MATRICES = {  # Machado, Oliveira and Fernandes 2009, full severity, for linear RGB
    "normal": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


def linear(color: str) -> np.ndarray:
    """Converts a hex color from sRGB to linear RGB."""
    values = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Returns the contrast ratio of WCAG 2."""
    light, dark = sorted((linear(c) @ [0.2126, 0.7152, 0.0722] + 0.05 for c in (one, other)), reverse=True)
    return light / dark


def lab(rgb: np.ndarray) -> np.ndarray:
    """Converts linear RGB to CIE 1976 L*a*b*."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_are_distinct_with_any_color_vision(scheme):
    block = re.findall(r":root \{(.*?)\}", STYLE, flags=re.S)[scheme == "dark"]
    colors = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
    assert contrast(colors["ink"], colors["paper"]) > 12
    for text in ("soft", "accent", "good", "bad", "mixed"):
        assert contrast(colors[text], colors["paper"]) > 4.5, text
    assert (
        min(contrast(colors["ink"], colors[shade]) for shade in ("hit", "miss")) > 4.5
    )  # behind the numbers of a confusion matrix
    assert min(contrast(colors[text], colors["panel"]) for text in ("ink", "soft")) > 4.5
    palette = [colors[f"c{i}"] for i in range(10)]
    assert all(contrast(color, colors["panel"]) >= 3 for color in palette)
    assert all(contrast(colors[name], colors["paper"]) >= 3 for name in ("trained", "random", "raw"))
    for name, matrix in MATRICES.items():
        converted = [lab(np.asarray(matrix) @ linear(color)) for color in palette]
        for i, j in itertools.combinations(range(10), 2):
            distance = np.linalg.norm(converted[i] - converted[j])
            assert distance > (25 if name == "normal" else 5), (name, i, j)
            assert distance > 30 or (j - i) % 5, (name, i, j)  # the same shape
