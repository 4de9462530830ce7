"""ProPos' prototype scattering loss against the formula in float64 numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssl_lib.losses import ProPosLoss

LABELS = torch.tensor([0, 3, 0, 1, 3, 3, -100])  # of 5 clusters, 2 and 4 have no image


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def formula(query, key, labels, temperature, clusters, queue=None, queue_labels=()):
    """Per cluster with images: -log of exp(own q.k) over the sum of it, of exp(q.q') and of exp(-10) if empty."""
    query, key = unit(query.numpy()), unit(key.numpy())
    if queue is not None:
        query, key = (np.concatenate([x, queue.numpy()]) for x in (query, key))
    labels = [*labels.tolist(), *queue_labels]
    members = {k: [i for i, label in enumerate(labels) if label == k] for k in range(clusters)}
    q, k = ({c: unit(x[m].mean(0)) for c, m in members.items() if m} for x in (query, key))
    losses = []
    for c in q:
        own = q[c] @ k[c] / temperature
        others = [q[c] @ q[d] / temperature if d in q else -10 for d in range(clusters) if d != c]
        losses.append(math.log(sum(map(math.exp, [own, *others]))) - own)
    return np.mean(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_value_equals_the_formula(temperature):
    query, key = random(7, 4), random(7, 4, seed=1)
    expected = formula(query, key, LABELS, temperature, 5)
    assert ProPosLoss(5, temperature)(query, key, LABELS).item() == pytest.approx(expected, rel=1e-12)


def test_queue_enters_both_means():
    query, key = random(7, 4), random(7, 4, seed=1)
    queue, queue_labels = torch.from_numpy(unit(random(3, 4, seed=2).numpy())), torch.tensor([4, 0, 4])
    expected = formula(query, key, LABELS, 0.5, 5, queue, queue_labels.tolist())
    assert ProPosLoss(5)(query, key, LABELS, queue, queue_labels).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_matches_finite_differences_and_the_key_has_none():
    query, key = random(7, 4).requires_grad_(), random(7, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: ProPosLoss(5)(q, key.detach(), LABELS), query)
    ProPosLoss(5)(query, key, LABELS).backward()
    assert query.grad.abs().sum() > 0 and key.grad is None
    assert torch.equal(query.grad[-1], torch.zeros(4, dtype=torch.float64))  # no cluster


def test_no_image_with_a_cluster_gives_zero():
    query = random(3, 4).requires_grad_()
    loss = ProPosLoss(5)(query, random(3, 4, seed=1), torch.full((3,), -100))
    loss.backward()
    assert loss == 0 and not query.grad.any()


def test_one_image_per_cluster_and_orthogonal_queries_have_the_known_value():
    """K orthogonal means that equal their keys: log(1 + (K - 1) exp(-1 / T))."""
    value = ProPosLoss(4, 0.5)(torch.eye(4) * 3, torch.eye(4), torch.arange(4))
    assert value.item() == pytest.approx(math.log(1 + 3 * math.exp(-2)), rel=1e-6)


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match="num_clusters must be at least 2, got 1"):
        ProPosLoss(1)
    with pytest.raises(ValueError, match="temperature must be positive and finite, got -1"):
        ProPosLoss(5, -1.0)
    query = random(7, 4)
    with pytest.raises(ValueError, match="query and key must have the same shape"):
        ProPosLoss(5)(query, query[:3], LABELS)
    with pytest.raises(ValueError, match=r"must have a label, got 7 and 0 rows, labels \(3,\) and 0"):
        ProPosLoss(5)(query, query, LABELS[:3])
    with pytest.raises(ValueError, match=r"must have a label, got 7 and 7 rows, labels \(7,\) and 0"):
        ProPosLoss(5)(query, query, LABELS, query)
