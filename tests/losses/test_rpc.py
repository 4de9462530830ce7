"""RPC loss compared with its formula in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_lib.losses import RPCLoss


def embeddings(count: int = 5) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return z[0].clone(), z[1].clone()


def formula(
    z_a: Tensor, z_b: Tensor, temperature: float, alpha: float, beta: float, gamma: float, normalize: bool
) -> float:
    """The difference of two means, over all pairs of views of one image and of different images."""
    views = np.concatenate((z_a.numpy(), z_b.numpy()))
    if normalize:
        views = views / np.linalg.norm(views, axis=1, keepdims=True)
    count, positives, negatives = len(z_a), [], []
    for i in range(2 * count):
        for j in range(2 * count):
            score = float(views[i] @ views[j]) / temperature
            if i != j and i % count == j % count:
                positives.append(score - beta / 2 * score**2)
            elif i != j:
                negatives.append(alpha * score + gamma / 2 * score**2)
    assert (len(positives), len(negatives)) == (2 * count, 2 * count * (2 * count - 2))
    return float(np.mean(negatives) - np.mean(positives))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("weights", [(0.3, 0.001, 0.1), (0.0, 0.0, 1.0), (2.0, 0.5, 0.0)])
@pytest.mark.parametrize("temperature", [0.5, 32.0])
def test_loss_equals_the_formula(temperature, weights, normalize):
    z_a, z_b = embeddings()
    loss = RPCLoss(temperature, *weights, normalize=normalize)(z_a, z_b)
    assert loss.item() == pytest.approx(formula(z_a, z_b, temperature, *weights, normalize), rel=1e-12)


def test_best_constant_similarity_has_the_chance_level():
    """-(1 - alpha)^2 / (2 (beta + gamma)) is the minimum over the lengths of equal embeddings."""
    chance = -(0.7**2) / (2 * 0.25)
    lengths = torch.linspace(0, 4, 81, dtype=torch.float64)
    loss = RPCLoss(1.0, 0.3, 0.05, 0.2, normalize=False)
    values = torch.stack([loss(length * torch.ones(4, 1), length * torch.ones(4, 1)) for length in lengths])
    assert chance - 1e-12 <= values.min().item() <= chance + 1e-3
    exact = (0.7 / 0.25) ** 0.5 * torch.ones(4, 1, dtype=torch.float64)
    assert loss(exact, exact).item() == pytest.approx(chance, rel=1e-12)


def test_separated_images_are_below_the_chance_level():
    apart = (1 / 0.25) ** 0.5 * torch.eye(4, dtype=torch.float64)
    assert RPCLoss(1.0, 0.3, 0.05, 0.2, normalize=False)(apart, apart) < -(0.7**2) / (2 * 0.25)


@pytest.mark.parametrize("normalize", [True, False])
def test_gradient_matches_finite_differences(normalize):
    inputs = tuple(z.requires_grad_() for z in embeddings())
    assert torch.autograd.gradcheck(RPCLoss(0.5, 0.3, 0.2, 0.4, normalize), inputs)


@pytest.mark.parametrize("name", ["temperature", "alpha", "beta", "gamma"])
def test_bad_constructor_arguments_raise(name):
    with pytest.raises(ValueError, match=f"{name} must be .* got -0.5"):
        RPCLoss(**{name: -0.5})


def test_unbounded_loss_and_batch_of_one_raise():
    with pytest.raises(ValueError, match=r"beta \+ gamma must be positive and finite, got 0"):
        RPCLoss(beta=0.0, gamma=0.0)
    with pytest.raises(ValueError, match="at least 2 images"):
        RPCLoss()(torch.ones(1, 3), torch.ones(1, 3))
