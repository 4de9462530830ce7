"""Shared fixtures: random test images, and a statistic that compares distributions."""

import pytest
import torch

from tests.views.samples import COUNT, HEIGHT, WIDTH


@pytest.fixture(params=[1, 3])
def images(request):
    """Noise with gray, black and white rows, and primary and secondary colors: edge cases of hue and saturation."""
    batch = torch.rand(COUNT, request.param, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    batch[:, :, :4] = batch[:, :1, :4]
    batch[:, :, 4:6], batch[:, :, 6:8] = 0.0, 1.0
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T[: request.param]  # (C, 8)
    batch[:, :, 8, :8] = corners
    return batch


@pytest.fixture
def two_sample_distance():
    """Kolmogorov-Smirnov statistic: the largest distance between two empirical distribution functions."""

    def distance(a, b):
        points = torch.cat((a, b)).unique()
        below = [torch.searchsorted(x.sort().values, points, right=True) / len(x) for x in (a, b)]
        return float((below[0] - below[1]).abs().max())

    return distance
