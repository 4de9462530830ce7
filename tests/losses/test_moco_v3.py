"""MoCo v3's loss against the formula in loops over float64 numbers."""

from __future__ import annotations

import math

import pytest
import torch

from ssl_lib.losses import InfoNCELoss, MoCoV3Loss


def embeddings(seed=0, count=5):
    return torch.randn(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_value_equals_the_formula(temperature):
    query, key = embeddings(), 7 * embeddings(1)
    expected = 0.0
    for i, q in enumerate(query.tolist()):
        weights = [math.exp(cosine(q, k) / temperature) for k in key.tolist()]
        expected -= 2 * temperature * math.log(weights[i] / sum(weights)) / len(query)
    assert MoCoV3Loss(temperature)(query, key).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_matches_finite_differences_and_keys_get_none():
    query, key = embeddings().requires_grad_(), embeddings(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: MoCoV3Loss(0.3)(q, key), [query])
    MoCoV3Loss()(query, key).backward()
    assert key.grad is None and query.grad.any()


def test_equal_rows_give_the_loss_at_chance():
    assert MoCoV3Loss(0.5)(torch.ones(6, 3), torch.ones(6, 3)).item() == pytest.approx(math.log(6), rel=1e-6)


def test_it_is_twice_the_temperature_times_info_nce():
    query, key = embeddings(), embeddings(1)
    torch.testing.assert_close(MoCoV3Loss(0.2)(query, key), 0.4 * InfoNCELoss(0.2)(query, key), rtol=1e-12, atol=0)


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        MoCoV3Loss(0.0)
    with pytest.raises(ValueError, match="query and key must have the same shape"):
        MoCoV3Loss()(torch.ones(3, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="at least 2 images, got query"):
        MoCoV3Loss()(torch.ones(1, 2), torch.ones(1, 2))
