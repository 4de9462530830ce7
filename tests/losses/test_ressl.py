"""ReSSL's loss against the formula in float64 numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lib.losses import ReSSLLoss


def embeddings(seed=0, count=5):
    return torch.randn(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def inputs():
    return embeddings(), 3 * embeddings(1), F.normalize(embeddings(2, 7))


def probabilities(x, queue, temperature):
    x, queue = x.numpy(), queue.numpy()
    weights = np.exp(x / np.linalg.norm(x, axis=1, keepdims=True) @ queue.T / temperature)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("student", "teacher"), [(0.1, 0.04), (0.2, 0.2), (0.5, 1.0)])
def test_value_equals_the_formula(student, teacher):
    query, key, queue = inputs()
    targets, predictions = probabilities(key, queue, teacher), probabilities(query, queue, student)
    expected = -(targets * np.log(predictions)).sum(1).mean()
    assert ReSSLLoss(student, teacher)(query, key, queue).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_matches_finite_differences_and_keys_get_none():
    query, key, queue = inputs()
    assert torch.autograd.gradcheck(lambda q: ReSSLLoss()(q, key, queue), [query.requires_grad_()])
    ReSSLLoss()(query, key.requires_grad_(), queue).backward()
    assert key.grad is None and query.grad.any()


def test_equal_views_at_equal_temperatures_give_the_entropy_of_the_targets():
    query, _, queue = inputs()
    targets = probabilities(query, queue, 0.3)
    entropy = -(targets * np.log(targets)).sum(1).mean()
    assert ReSSLLoss(0.3, 0.3)(query, query, queue).item() == pytest.approx(entropy, rel=1e-12)


def test_a_query_equally_far_from_all_rows_gives_the_loss_at_chance():
    queue = torch.eye(4)[:3]
    loss = ReSSLLoss()(torch.tensor([[0.0, 0.0, 0.0, 2.0]]), torch.tensor([[5.0, 1.0, 0.0, 0.0]]), queue)
    assert loss.item() == pytest.approx(math.log(3), rel=1e-6)


@pytest.mark.parametrize("name", ["student_temperature", "teacher_temperature"])
def test_bad_temperatures_raise(name):
    with pytest.raises(ValueError, match=f"{name} must be positive and finite, got -0.1"):
        ReSSLLoss(**{name: -0.1})


def test_bad_shapes_raise():
    with pytest.raises(ValueError, match="query and key must have the same shape"):
        ReSSLLoss()(torch.ones(3, 2), torch.ones(4, 2), torch.ones(5, 2))
    with pytest.raises(ValueError, match="at least 1 images, got query"):
        ReSSLLoss()(torch.ones(0, 2), torch.ones(0, 2), torch.ones(5, 2))
