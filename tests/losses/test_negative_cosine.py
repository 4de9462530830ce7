"""Negative cosine loss compared with numpy and torch."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lib.losses import NegativeCosineLoss


def test_loss_equals_the_formula() -> None:
    rng = np.random.default_rng(0)
    p, t = rng.normal(size=(2, 6, 5))
    expected = -np.mean([np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(p, t, strict=True)])
    value = NegativeCosineLoss()(torch.from_numpy(p), torch.from_numpy(t))
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_gradient_reaches_only_the_prediction() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(4, 3, dtype=torch.float64, generator=generator).requires_grad_() for _ in "ab")
    NegativeCosineLoss()(prediction, target).backward()
    expected = torch.autograd.grad(-F.cosine_similarity(prediction, target.detach()).mean(), prediction)[0]
    torch.testing.assert_close(prediction.grad, expected, rtol=1e-10, atol=1e-12)
    assert target.grad is None


def test_parallel_and_opposite_vectors_reach_the_bounds() -> None:
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert NegativeCosineLoss()(x, 3 * x).item() == pytest.approx(-1, rel=1e-12)
    assert NegativeCosineLoss()(x, -x).item() == pytest.approx(1, rel=1e-12)


def test_zero_row_has_cosine_zero_and_no_gradient() -> None:
    prediction = torch.tensor([[0.0, 0.0], [0.0, 2.0]], requires_grad=True)
    value = NegativeCosineLoss()(prediction, torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    value.backward()
    assert value.item() == pytest.approx(-(0.5**0.5) / 2)
    assert (prediction.grad[0] == 0).all() and (prediction.grad[1] != 0).any()
