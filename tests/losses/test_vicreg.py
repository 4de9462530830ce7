"""VICReg loss compared with its formula in numpy."""

import math

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


def exponential(z: np.ndarray, temperature: float) -> tuple[float, float]:
    """Hinge and equation 11 of arXiv:2206.02574, for the rows of z as samples."""
    matrix, dim = np.cov(z.T), z.shape[1]
    hinge = np.mean([max(0.0, 1 - math.sqrt(matrix[i, i] + 1e-4)) for i in range(dim)])
    terms = [math.log(sum(math.exp(matrix[i, j] / temperature) for j in range(dim) if j != i)) for i in range(dim)]
    return float(hinge), float(np.mean(terms))


@pytest.mark.parametrize("covariance", ["exp", "ctr"])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("spread", [0.3, 2.0])
@pytest.mark.parametrize("shape", [(9, 5), (3, 6), (2, 2)])
def test_exponential_covariance_equals_the_formula(covariance, temperature, spread, shape) -> None:
    z_a, z_b = np.random.default_rng(0).normal(2, spread, size=(2, *shape))
    parts = []
    for z in (z_a, z_b):
        centered = z - z.mean(0)
        parts.append(exponential(centered if covariance == "exp" else centered.T, temperature))
    expected = (
        2.0 * np.mean((z_a - z_b) ** 2) + 3.0 * (parts[0][0] + parts[1][0]) / 2 + 4.0 * (parts[0][1] + parts[1][1])
    )
    loss = VICRegLoss(2.0, 3.0, 4.0, covariance=covariance, temperature=temperature)
    assert loss(torch.from_numpy(z_a), torch.from_numpy(z_b)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("covariance", ["exp", "ctr"])
def test_gradient_of_exponential_covariance_matches_finite_differences(covariance) -> None:
    inputs = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = VICRegLoss(covariance=covariance, temperature=0.5)
    assert torch.autograd.gradcheck(lambda z: loss(z[0], z[1]), inputs)


def test_contrastive_form_repels_images_and_the_exponential_form_dimensions() -> None:
    """Images in two opposite directions have no correlated images beyond their own, but fully correlated dimensions."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(64, 64, dtype=torch.float64, generator=generator)
    same_dimensions = spread[:, :1] * torch.ones(64, 64, dtype=torch.float64)
    same_images = spread[:1] * (torch.arange(64) % 2 * 2.0 - 1)[:, None]
    terms = {
        kind: [VICRegLoss(0, 0, 1, covariance=kind)(z, z).item() for z in (spread, same_dimensions, same_images)]
        for kind in ("exp", "ctr")
    }
    assert terms["exp"][1] > terms["exp"][0] + 1 and terms["ctr"][2] > terms["ctr"][0] + 1


def test_bad_exponential_arguments_raise() -> None:
    with pytest.raises(ValueError, match="covariance must be 'square', 'exp' or 'ctr', got 'cube'"):
        VICRegLoss(covariance="cube")
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        VICRegLoss(temperature=0.0)
    with pytest.raises(ValueError, match="VICReg-exp needs at least 2 dimensions, got 1"):
        VICRegLoss(covariance="exp")(torch.ones(3, 1), torch.ones(3, 1))
