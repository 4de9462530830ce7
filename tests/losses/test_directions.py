"""Random directions are spread evenly over the sphere."""

from __future__ import annotations

import torch

from ssl_lib.losses import random_directions
from ssl_lib.types import BatchRandom


def test_directions_have_unit_length_and_no_preferred_direction():
    random = BatchRandom(8, generator=torch.Generator().manual_seed(0))
    directions = random_directions(random.shared(2, 3, 20000)).double()
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(20000, dtype=torch.float64), rtol=0, atol=1e-6)
    sampling_error = 5 / 20000**0.5
    assert directions.mean(1).abs().max() < sampling_error
    assert (directions @ directions.T / 20000 - torch.eye(3) / 3).abs().max() < sampling_error


def test_first_coordinate_on_the_sphere_in_three_dimensions_is_uniform():
    """Archimedes' hat-box theorem: normalized uniform or sign numbers would not have it."""
    generator = torch.Generator().manual_seed(0)
    first = random_directions(torch.rand(2, 3, 20000, generator=generator))[0].sort().values
    assert (first - torch.linspace(-1, 1, 20000)).abs().max() < 0.04


def test_zero_is_a_valid_number():
    assert random_directions(torch.tensor([[[0.0], [0.5]], [[0.0], [0.0]]])).isfinite().all()
