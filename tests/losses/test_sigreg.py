"""SIGReg against the Epps-Pulley statistic in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.losses import SIGRegLoss


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def epps_pulley(x):
    """Of one projection: the trapezoidal rule on both sides of zero, with complex numbers."""
    t = np.linspace(-3, 3, 33)
    difference = np.mean([np.exp(1j * t * value) for value in x], 0) - np.exp(-(t**2) / 2)
    values = np.abs(difference) ** 2 * np.exp(-(t**2) / 2)
    return len(x) * ((values[1:] + values[:-1]) / 2 * np.diff(t)).sum()


def test_value_equals_the_formula():
    z, directions = 1.3 * numbers(2, 7, 3) + 0.2, numbers(3, 5, seed=1)
    units = directions.numpy() / np.linalg.norm(directions.numpy(), axis=0)
    expected = np.mean([epps_pulley(projection) for view in z.numpy() for projection in (view @ units).T])
    assert SIGRegLoss()(z, directions).item() == pytest.approx(expected, rel=1e-12)
    mean = (SIGRegLoss()(z[0], directions) + SIGRegLoss()(z[1], directions)) / 2
    assert mean.item() == pytest.approx(expected, rel=1e-12)


def test_gradient_matches_finite_differences():
    directions = numbers(3, 5, seed=1)
    assert torch.autograd.gradcheck(lambda z: SIGRegLoss()(z, directions), numbers(2, 6, 3).requires_grad_())


def test_normal_embeddings_have_the_smallest_value():
    normal = numbers(2000, 4)
    loss = SIGRegLoss(64).eval()
    for other in (2 * normal, normal + 0.5, normal.sign(), torch.zeros_like(normal)):
        assert loss(other) > 10 * loss(normal)


def test_directions_without_an_argument_change_with_every_call_in_training_mode_alone():
    z = numbers(20, 4)
    loss = SIGRegLoss(8).eval()
    first = loss(z)
    assert loss(z) == first
    loss.train()
    values = [loss(z).item() for _ in range(3)]
    assert values[0] == first and len(set(values)) == 3


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match=r"num_slices must be .* got 0"):
        SIGRegLoss(0)
    with pytest.raises(ValueError, match=r"directions must be \(3, K\), one per column, got \(5, 3\)"):
        SIGRegLoss()(torch.ones(6, 3), torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"embeddings must be a float tensor \(..., N, D\).*\(3,\)"):
        SIGRegLoss()(torch.ones(3))
