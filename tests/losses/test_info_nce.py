"""InfoNCE against the formula in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lib.losses import InfoNCELoss, NTXentLoss


def embeddings(count=5, seed=0):
    return torch.randn(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(x):
    return x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)


def cross_entropy(similarities, positive, temperature):
    logits = similarities / temperature
    top = logits.max(1, keepdims=True)
    return (top[:, 0] + np.log(np.exp(logits - top).sum(1)) - logits[np.arange(len(logits)), positive]).mean()


@pytest.mark.parametrize(("epsilon", "alpha"), [(0.0, 1.0), (0.1, 1.0), (0.2, 0.5)])
@pytest.mark.parametrize("with_queue", [False, True])
def test_value_equals_the_formula(with_queue, epsilon, alpha):
    query, key, queue = embeddings(), embeddings(seed=1), F.normalize(embeddings(7, seed=2))
    if with_queue:
        positive = (unit(query) * unit(key)).sum(1, keepdims=True)
        similarities = np.concatenate([positive, unit(query) @ queue.numpy().T], 1)
        places = np.zeros(5, int)
    else:
        similarities, places = unit(query) @ unit(key).T, np.arange(5)
    shift = np.full_like(similarities, epsilon)
    shift[np.arange(5), places] = -epsilon
    plain = cross_entropy(similarities, places, 0.3)
    expected = (plain + alpha * cross_entropy(similarities + shift, places, 0.3)) / (1 + alpha) if epsilon else plain
    loss = InfoNCELoss(0.3, epsilon, alpha)(query, key, queue if with_queue else None)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("with_queue", [False, True])
def test_gradient_matches_finite_differences(with_queue, epsilon):
    queue = F.normalize(embeddings(6, seed=2)) if with_queue else None
    inputs = embeddings().requires_grad_(), embeddings(seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: InfoNCELoss(0.3, epsilon)(q, k, queue), inputs)


def test_both_directions_without_a_queue_are_nt_xent_without_negatives_of_the_own_view():
    """NT-Xent with two views has the additional negatives of the anchor's own view."""
    z_a, z_b = embeddings(), embeddings(seed=1)
    loss = InfoNCELoss(0.5)
    assert loss(z_a, z_b) < NTXentLoss(0.5)(z_a, z_b)


@pytest.mark.parametrize("name", ["temperature", "epsilon", "alpha"])
def test_bad_constructor_arguments_raise(name):
    with pytest.raises(ValueError, match=f"{name} must be .* got -0.5"):
        InfoNCELoss(**{name: -0.5})


def test_bad_shapes_raise():
    with pytest.raises(ValueError, match="query and key must have the same shape"):
        InfoNCELoss()(torch.ones(3, 2), torch.ones(3, 4))
    with pytest.raises(ValueError, match="at least 2 images, got query"):
        InfoNCELoss()(torch.ones(1, 2), torch.ones(1, 2))
    assert InfoNCELoss()(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([[1.0, 0.0]])).isfinite()
