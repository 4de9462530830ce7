"""TiCo against the formula in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.losses import TiCoLoss


def embeddings(count=6, seed=0):
    return torch.randn(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(x):
    return x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)


def symmetric(seed=7):
    x = embeddings(4, seed)
    return x @ x.T


def test_three_updates_equal_the_formula():
    loss, moving = TiCoLoss(4, beta=0.8, rho=3.0).double(), np.zeros((4, 4))
    for step in range(3):
        z_a, z_b = embeddings(seed=2 * step), embeddings(seed=2 * step + 1)
        a, b = unit(z_a), unit(z_b)
        moving = 0.8 * moving + 0.2 * sum(np.outer(row, row) for row in a) / 6
        agreement = np.mean([x @ y for x, y in zip(a, b, strict=True)])
        expected = 1 - agreement + 3 * np.mean([row @ moving @ row for row in a])
        assert loss(z_a, z_b).item() == pytest.approx(expected, rel=1e-12)
        loss.commit()
        np.testing.assert_allclose(loss.covariance.numpy(), moving, rtol=1e-12)


def test_gradient_matches_finite_differences_if_the_batch_does_not_enter_the_moment():
    loss = TiCoLoss(4, beta=1.0).double().eval()
    loss.covariance.copy_(symmetric())
    assert torch.autograd.gradcheck(loss, (embeddings().requires_grad_(), embeddings(seed=1).requires_grad_()))


def test_the_moving_moment_has_no_gradient():
    gradients = []
    for beta in (0.7, 1.0):
        loss, z_a = TiCoLoss(4, beta).double(), embeddings().requires_grad_()
        own = torch.as_tensor(unit(embeddings()))
        loss.covariance.copy_(symmetric() if beta < 1 else 0.7 * symmetric() + 0.3 * own.T @ own / 6)
        loss(z_a, embeddings(seed=1)).backward()
        gradients.append(z_a.grad)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_micro_batches_move_the_moment_like_the_whole_batch():
    whole, parts = TiCoLoss(4).double(), TiCoLoss(4).double()
    z_a, z_b = embeddings(), embeddings(seed=1)
    whole(z_a, z_b)
    for rows in (slice(0, 4), slice(4, 6)):
        parts(z_a[rows], z_b[rows])
    assert not parts.covariance.any()
    for loss in (whole, parts):
        loss.commit()
    torch.testing.assert_close(parts.covariance, whole.covariance, rtol=1e-12, atol=1e-15)


def test_values_of_collapsed_and_of_spread_embeddings():
    collapsed = torch.ones(6, 4, dtype=torch.float64)
    assert TiCoLoss(4, beta=0.0, rho=5.0)(collapsed, collapsed).item() == pytest.approx(5)
    spread = torch.eye(4, dtype=torch.float64)
    assert TiCoLoss(4, beta=0.0, rho=5.0)(spread, spread.roll(1, 0)).item() == pytest.approx(1 + 5 / 4)


@pytest.mark.parametrize(("name", "value"), [("dim", 0), ("beta", 1.5), ("beta", -0.1), ("rho", -1.0)])
def test_bad_constructor_arguments_raise(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* got {value}"):
        TiCoLoss(**{"dim": 4, name: value})


def test_bad_shapes_raise():
    with pytest.raises(ValueError, match="must have 4 columns, got 3"):
        TiCoLoss(4)(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="must have the same shape"):
        TiCoLoss(4)(torch.ones(2, 4), torch.ones(3, 4))
