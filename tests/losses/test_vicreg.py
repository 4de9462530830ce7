"""VICReg loss compared with its formula in numpy."""

import numpy as np
import pytest
import torch

from ssl_lib.losses import VICRegLoss


def formula(z_a: np.ndarray, z_b: np.ndarray, eps: float = 1e-4) -> tuple[float, float, float]:
    """The three unweighted terms, as in the reference code."""
    variance, covariance = 0.0, 0.0
    for z in (z_a, z_b):
        variance += np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + eps)).mean() / 2
        matrix = np.cov(z.T)
        covariance += (matrix**2)[~np.eye(len(matrix), dtype=bool)].sum() / len(matrix)
    return float(np.mean((z_a - z_b) ** 2)), variance, covariance


@pytest.mark.parametrize("batch", [2, 9])
@pytest.mark.parametrize("spread", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("weights", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2.0, 3.0, 4.0)])
def test_loss_equals_the_formula(batch: int, spread: float, weights: tuple[float, float, float]) -> None:
    z_a, z_b = np.random.default_rng(0).normal(2, spread, size=(2, batch, 5))
    value = VICRegLoss(*weights, eps=0.01)(torch.from_numpy(z_a), torch.from_numpy(z_b))
    assert value.item() == pytest.approx(np.dot(weights, formula(z_a, z_b, 0.01)), rel=1e-12)


def test_default_weights_are_the_papers() -> None:
    z_a, z_b = np.random.default_rng(1).normal(0, 0.3, size=(2, 8, 5))
    value = VICRegLoss()(torch.from_numpy(z_a), torch.from_numpy(z_b))
    assert value.item() == pytest.approx(np.dot([25, 25, 1], formula(z_a, z_b)), rel=1e-12)


def test_loss_is_invariant_to_translation_of_both_views() -> None:
    z_a, z_b = torch.randn(2, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shift = torch.linspace(-9, 9, 5, dtype=torch.float64)
    loss = VICRegLoss()
    assert loss(z_a + shift, z_b + shift).item() == pytest.approx(loss(z_a, z_b).item(), rel=1e-12)
    assert loss(z_a + shift, z_b).item() > loss(z_a, z_b).item() + 1


def test_one_dimension_has_no_covariance() -> None:
    z = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    assert VICRegLoss(1, 1, 1)(z, z).item() == 0
