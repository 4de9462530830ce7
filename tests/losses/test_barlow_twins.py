"""Barlow Twins loss compared with its formula in numpy."""

import numpy as np
import pytest
import torch

from ssl_lib.losses import BarlowTwinsLoss


def formula(z_a: np.ndarray, z_b: np.ndarray, redundancy_weight: float) -> float:
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (z_a, z_b))
    dim, total = a.shape[1], 0.0
    for i in range(dim):
        for j in range(dim):
            correlation = np.mean(a[:, i] * b[:, j])
            total += (correlation - 1) ** 2 if i == j else redundancy_weight * correlation**2
    return total


@pytest.mark.parametrize("batch", [2, 8])
@pytest.mark.parametrize(("weight", "scale"), [(0.0051, 1.0), (0.0, 1.0), (2.5, 0.1)])
def test_loss_equals_the_formula(batch: int, weight: float, scale: float) -> None:
    z_a, z_b = np.random.default_rng(0).normal(2, 3, size=(2, batch, 5))
    value = BarlowTwinsLoss(weight, scale)(torch.from_numpy(z_a), torch.from_numpy(z_b))
    assert value.item() == pytest.approx(scale * formula(z_a, z_b, weight), rel=1e-12)


def test_default_weight_is_the_papers() -> None:
    z_a, z_b = np.random.default_rng(1).normal(size=(2, 8, 5))
    value = BarlowTwinsLoss()(torch.from_numpy(z_a), torch.from_numpy(z_b))
    assert value.item() == pytest.approx(formula(z_a, z_b, 0.0051), rel=1e-12)


def test_loss_is_invariant_to_shift_and_scale_of_a_column() -> None:
    z_a, z_b = torch.randn(2, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e6
    moved = z_a * torch.tensor([1.0, 2, 3, 4, 5]) + 1e6
    loss = BarlowTwinsLoss()
    assert loss(moved, z_b).item() == pytest.approx(loss(z_a, z_b).item(), rel=1e-9)


def test_large_mean_keeps_float32_accuracy() -> None:
    z = torch.randn(2, 64, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1000
    low = z.float()
    expected = BarlowTwinsLoss()(*low.double())
    assert BarlowTwinsLoss()(*low).item() == pytest.approx(expected.item(), rel=1e-4)


def test_variance_that_overflows_gives_nan_and_not_the_loss_of_zeros() -> None:
    z_a, z_b = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    assert BarlowTwinsLoss()(1e10 * z_a, z_b).isfinite()
    assert BarlowTwinsLoss()(1e30 * z_a, z_b).isnan()


@pytest.mark.parametrize("batch", [2, 8])
@pytest.mark.parametrize(("weight", "scale"), [(1 / 128, 1.0), (1.5, 0.1)])
def test_hsic_form_equals_the_formula(batch: int, weight: float, scale: float) -> None:
    """Off the diagonal the target is -1."""
    z_a, z_b = np.random.default_rng(0).normal(2, 3, size=(2, batch, 5))
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (z_a, z_b))
    errors = [(i, j, np.mean(a[:, i] * b[:, j]) - (1 if i == j else -1)) for i in range(5) for j in range(5)]
    expected = scale * sum(error**2 * (1 if i == j else weight) for i, j, error in errors)
    value = BarlowTwinsLoss(weight, scale, hsic=True)(torch.from_numpy(z_a), torch.from_numpy(z_b))
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_gradient_of_the_hsic_form_matches_finite_differences() -> None:
    z = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: BarlowTwinsLoss(0.1, hsic=True)(z[0], z[1]), z)
