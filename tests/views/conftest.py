"""A statistic that the tests of random parameters share."""

import pytest
import torch


@pytest.fixture
def two_sample_distance():
    """Kolmogorov and Smirnov's: the largest distance of two samples' empirical distribution functions."""

    def distance(a, b):
        points = torch.cat((a, b)).unique()
        below = [torch.searchsorted(x.sort().values, points, right=True) / len(x) for x in (a, b)]
        return float((below[0] - below[1]).abs().max())

    return distance
