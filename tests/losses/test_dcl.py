"""DCL and DCLW compared with their formulas in numpy, and with NT-Xent."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_lib.losses import DCLLoss, NTXentLoss


def embeddings(count: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return z[0].clone(), z[1].clone()


def formula(z_a: Tensor, z_b: Tensor, temperature: float, sigma: float | None) -> float:
    a, b = (z.numpy() / np.linalg.norm(z.numpy(), axis=1, keepdims=True) for z in (z_a, z_b))
    count, cosines = len(a), [float(a[i] @ b[i]) for i in range(len(a))]
    weights = [1.0] * count
    if sigma is not None:
        total = sum(math.exp(c / sigma) for c in cosines)
        weights = [2 - count * math.exp(c / sigma) / total for c in cosines]
    terms = []
    for own, other in ((a, b), (b, a)):
        for i in range(count):
            negatives = [x[j] for x in (own, other) for j in range(count) if j != i]
            repulsion = math.log(sum(math.exp(float(own[i] @ x) / temperature) for x in negatives))
            terms.append(repulsion - weights[i] * cosines[i] / temperature)
    return float(np.mean(terms))


@pytest.mark.parametrize("sigma", [None, 0.5, 2.0])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("count", [2, 7])
def test_loss_equals_the_formula(count, temperature, sigma):
    z_a, z_b = embeddings(count)
    loss = DCLLoss(temperature, sigma)(z_a, z_b)
    assert loss.item() == pytest.approx(formula(z_a, z_b, temperature, sigma), rel=1e-12)


def test_nt_xent_is_dcl_with_the_positive_in_the_denominator():
    """log(exp(p) + sum of the negatives) - p, anchor by anchor, equals NT-Xent."""
    z_a, z_b = embeddings(2)
    a, b = (torch.nn.functional.normalize(z, dim=1) for z in (z_a, z_b))
    positives = torch.cat(((a * b).sum(1), (a * b).sum(1))) / 0.3
    single = torch.stack([DCLLoss(0.3)(z_a.roll(k, 0), z_b.roll(k, 0)) for k in range(2)])
    assert torch.allclose(single, single[:1])
    negatives = torch.cat([torch.stack((x, y), 1) for x, y in negatives_of(a, b)]).div(0.3).logsumexp(1)
    assert DCLLoss(0.3)(z_a, z_b).item() == pytest.approx((negatives - positives).mean().item(), rel=1e-12)
    expected = torch.logaddexp(negatives, positives) - positives
    assert NTXentLoss(0.3)(z_a, z_b).item() == pytest.approx(expected.mean().item(), rel=1e-12)


def negatives_of(a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For two images: the similarities of each anchor with both views of the other image."""
    return [((own * own.flip(0)).sum(1), (own * other.flip(0)).sum(1)) for own, other in ((a, b), (b, a))]


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_uninformative_embeddings_have_the_chance_level(sigma):
    same = torch.ones(6, 3, dtype=torch.float64)
    assert DCLLoss(0.1, sigma)(same, same).item() == pytest.approx(math.log(10), rel=1e-12)


def test_an_easy_positive_keeps_its_gradient():
    """NT-Xent's gradient vanishes when the positive dominates, DCL's does not."""
    z_a, z_b = torch.eye(4, dtype=torch.float64).requires_grad_(), torch.eye(4, dtype=torch.float64) + 0.01
    (coupled,) = torch.autograd.grad(NTXentLoss(0.02)(z_a, z_b), z_a)
    (decoupled,) = torch.autograd.grad(DCLLoss(0.02)(z_a, z_b), z_a)
    assert coupled.norm() < 1e-6 * decoupled.norm()


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_gradient_matches_finite_differences(sigma):
    """With `sigma`, the gradient flows through the weights."""
    inputs = tuple(z.requires_grad_() for z in embeddings())
    assert torch.autograd.gradcheck(DCLLoss(0.5, sigma), inputs)


@pytest.mark.parametrize("name", ["temperature", "sigma"])
def test_bad_constructor_arguments_raise(name):
    with pytest.raises(ValueError, match=f"{name} must be positive and finite, got -0.5"):
        DCLLoss(**{name: -0.5})


def test_batch_of_one_raises():
    with pytest.raises(ValueError, match="at least 2 images"):
        DCLLoss()(torch.ones(1, 3), torch.ones(1, 3))
