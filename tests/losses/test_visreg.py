"""VISReg against the formula in float64 numpy."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch

from ssl_lib.losses import VISRegLoss


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def expected(z, directions, stds=None):
    """The loss of embeddings (V, N, D); `stds` are the standard deviations of the standardization, if not the own."""
    units = directions / np.linalg.norm(directions, axis=0)
    losses = []
    for index, view in enumerate(z):
        count = len(view)
        mean, std = view.mean(0), view.std(0) + 1e-6
        standardized = (view - mean) / (std if stds is None else stds[index])
        quantiles = [NormalDist().inv_cdf((i + 1) / (count + 1)) for i in range(count)]
        gaps = [(np.sort(standardized @ unit) - quantiles) ** 2 for unit in units.T]
        losses.append((mean**2).mean() + ((std - 1) ** 2).mean() + np.mean(gaps))
    return np.mean(losses)


def test_value_equals_the_formula():
    z, directions = 1.3 * numbers(2, 7, 3) + 0.2, numbers(3, 5, seed=1)
    assert VISRegLoss()(z, directions).item() == pytest.approx(expected(z.numpy(), directions.numpy()), rel=1e-10)
    one = VISRegLoss()(z[0], directions).item()
    assert one == pytest.approx(expected(z[:1].numpy(), directions.numpy()), rel=1e-10)


def test_gradient_matches_finite_differences_with_constant_standardization():
    z, directions, step = numbers(2, 5, 3), numbers(3, 4, seed=1).numpy(), 1e-6
    leaf = z.clone().requires_grad_()
    VISRegLoss()(leaf, torch.as_tensor(directions)).backward()
    stds = z.numpy().std(1) + 1e-6
    for place in np.ndindex(*z.shape):
        sides = []
        for sign in (1, -1):
            moved = z.numpy().copy()
            moved[place] += sign * step
            sides.append(expected(moved, directions, stds))
        assert leaf.grad[place].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-8)


def test_each_term_sees_its_own_deviation_from_the_normal_distribution():
    normal, directions = numbers(4000, 4), numbers(4, 64, seed=1)
    loss = VISRegLoss()
    assert loss(normal, directions) < 0.01
    assert loss(normal + 0.5, directions).item() == pytest.approx(0.25, abs=0.02)  # the mean
    assert loss(3 * normal, directions).item() == pytest.approx(4, abs=0.2)  # the scale
    assert loss(normal.sign(), directions) > 0.02  # the shape
    assert loss(torch.zeros_like(normal), directions) > 1.5  # collapse: scale and shape


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match=r"num_directions must be .* got 0"):
        VISRegLoss(0)
    with pytest.raises(ValueError, match=r"directions must be \(3, K\), one per column, got \(4, 3\)"):
        VISRegLoss()(torch.ones(6, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"z must be a float tensor \(..., N, D\) with N at least 2.*\(1, 3\)"):
        VISRegLoss()(torch.ones(1, 3))
