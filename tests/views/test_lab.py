"""CIELAB colors against a conversion written differently, and the classes of colors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from ssl_lib.views.lab import ColorClasses, color_bins, rgb_to_lab


def lab_of(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """CIELAB of one sRGB color, from the definitions: D65 white, f with a linear part below (6/29)^3."""

    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else math.pow((value + 0.055) / 1.055, 2.4)

    def f(t: float) -> float:
        return t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116

    r, g, b = linear(red), linear(green), linear(blue)
    x = f((0.412453 * r + 0.357580 * g + 0.180423 * b) / 0.95047)
    y = f(0.212671 * r + 0.715160 * g + 0.072169 * b)
    z = f((0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.08883)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_lab_equals_the_definition_color_by_color():
    levels = [0.0, 1 / 255, 0.04, 0.05, 0.2, 0.5, 0.77, 1.0]
    colors = list(itertools.product(levels, repeat=3))
    expected = torch.tensor([lab_of(*color) for color in colors], dtype=torch.float64)
    images = torch.tensor(colors, dtype=torch.float64).T.reshape(1, 3, 16, 32)
    torch.testing.assert_close(rgb_to_lab(images)[0].flatten(1).T, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(rgb_to_lab(images.float())[0].flatten(1).T.double(), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("color", "lab"),
    [
        ((1, 1, 1), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_known_colors(color, lab):
    """The published values of the primaries."""
    found = rgb_to_lab(torch.tensor(color, dtype=torch.float64).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(lab, dtype=torch.float64), rtol=0, atol=0.03)


def test_gray_images_are_refused():
    with pytest.raises(ValueError, match=r"three channels .*, got \(2, 1, 8, 8\)"):
        rgb_to_lab(torch.rand(2, 1, 8, 8))


def test_bins_are_those_that_contain_a_color_of_the_cube():
    """Colors from the inside of the cube, too: the bins are computed from its surface."""
    colors = np.random.default_rng(0).random((3, 300_000))
    ab = rgb_to_lab(torch.tensor(colors).view(1, 3, 300, 1000))[0, 1:].flatten(1).T
    hit = set(map(tuple, (ab / 10 + 0.5).floor().mul(10).unique(dim=0).int().tolist()))
    bins = set(map(tuple, color_bins().int().tolist()))
    assert hit <= bins and len(bins) == len(color_bins()) == 261
    assert len(bins - hit) <= 15  # bins of which the cube fills a corner


def classes(grid: int = 2, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3)) -> ColorClasses:
    return ColorClasses(mean, std, grid)


def test_classes_are_gaussian_weights_of_the_ten_nearest_bins_at_the_points_of_the_grid():
    torch.manual_seed(0)
    part, pixels = classes().double(), torch.rand(3, 3, 8, 6, dtype=torch.float64)
    mean, std = (values.view(1, 3, 1, 1) for values in (torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])))
    lab = part.lab((pixels - mean) / std)
    found, colored = part.classes(lab)
    assert found.shape == (3, 4, 261) and colored.all()
    bins = color_bins().double().numpy()
    for image, (place, (row, column)) in itertools.product(range(3), enumerate([(2, 1), (2, 4), (6, 1), (6, 4)])):
        _, a, b = lab_of(*pixels[image, :, row, column].tolist())
        distances = np.hypot(bins[:, 0] - a, bins[:, 1] - b)
        nearest = np.argsort(distances)[:10]
        expected = np.zeros(261)
        expected[nearest] = np.exp(-(distances[nearest] ** 2) / 50)
        np.testing.assert_allclose(found[image, place].numpy(), expected / expected.sum(), rtol=1e-4, atol=1e-7)


def test_lightness_of_a_gray_photograph_is_close_to_the_photograph():
    part, pixels = classes(), torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    images = (pixels - part.mean) / part.std
    lightness = part.lightness(part.lab(images), 3)
    assert ((lightness - images) * part.std).abs().max() < 0.05
    assert part.lightness(part.lab(images), 1).shape == (1, 1, 8, 8)


def test_images_without_colors_have_no_classes():
    part = classes()
    gray = torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8)
    red = gray.clone()
    red[:, 1:, 2, 2] = 0.0  # one of the four points of the grid
    red[:, 0, 2, 2] = 1.0
    images = (torch.cat([gray, red]) - part.mean) / part.std
    assert part.classes(part.lab(images))[1].tolist() == [False, True]
    output = part(images)
    assert output.shape == (2, 262) and not output[0].any() and output[1, -1] == 1
    torch.testing.assert_close(output[1, :-1].sum(), torch.tensor(1.0))


def test_classes_do_not_change_under_autocast():
    part, images = classes(), torch.randn(2, 3, 8, 8)
    expected = part(images)
    with torch.autocast("cpu", torch.bfloat16):
        found = part(images)
    assert torch.equal(found, expected)


def test_images_smaller_than_the_grid_are_refused():
    with pytest.raises(ValueError, match="images of 3 pixels are too small for 4 x 4 points"):
        classes(4).classes(torch.rand(1, 3, 8, 3))
