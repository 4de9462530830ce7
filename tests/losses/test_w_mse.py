"""Whitening and W-MSE against the formulas in float64 numpy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from ssl_lib.losses import WMSELoss, whiten


def embeddings(count=12, seed=0, width=3):
    mixing = torch.eye(width, dtype=torch.float64) + torch.ones(width, width, dtype=torch.float64).tril() / 2
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) @ mixing


def whitened(x, eps=0.0):
    """By the inverse of the Cholesky factor, in numpy."""
    covariance = (1 - eps) * np.cov(x, rowvar=False) + eps * np.eye(x.shape[1])
    return (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(covariance)).T


@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_whitening_equals_the_formula(eps):
    np.testing.assert_allclose(whiten(embeddings(), eps).numpy(), whitened(embeddings().numpy(), eps), rtol=1e-10)


@pytest.mark.parametrize("factor", [1e-25, 1.0, 1e15])
def test_whitened_rows_have_mean_zero_and_the_identity_as_covariance(factor):
    y = whiten((factor * embeddings()).float()).double().numpy()
    np.testing.assert_allclose(np.cov(y, rowvar=False), np.eye(3), atol=1e-5)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("views", [2, 3])
def test_value_equals_the_formula(views, normalize):
    z = [embeddings(seed=seed) for seed in range(views)]
    orders = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(seed)) for seed in range(2)])
    distances = []
    for order in orders.numpy():
        for rows in np.split(order, 2):
            for a, b in combinations([whitened(x.numpy()[rows]) for x in z], 2):
                if normalize:
                    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
                distances.append(((a - b) ** 2).sum(1).mean() if normalize else ((a - b) ** 2).mean())
    loss = WMSELoss(6, iterations=2, normalize=normalize)(*z, permutations=orders)
    assert loss.item() == pytest.approx(np.mean(distances), rel=1e-12)


def test_gradients_match_finite_differences():
    z_a, z_b = embeddings().requires_grad_(), embeddings(seed=1).requires_grad_()
    assert torch.autograd.gradcheck(whiten, z_a)
    assert torch.autograd.gradcheck(lambda x: whiten(x, 0.3), z_a)
    orders = torch.arange(12).flip(0)[None]
    assert torch.autograd.gradcheck(lambda a, b: WMSELoss(6)(a, b, permutations=orders), (z_a, z_b))


def test_a_batch_of_fewer_images_than_a_group_is_one_group():
    z = embeddings(), embeddings(seed=1)
    assert WMSELoss(100)(*z) == WMSELoss()(*z) == WMSELoss(12)(*z)


def test_groups_are_drawn_from_the_default_generator_without_permutations():
    z = embeddings(), embeddings(seed=1)
    torch.manual_seed(0)
    drawn = [WMSELoss(6)(*z) for _ in range(2)]
    torch.manual_seed(0)
    assert drawn[0] != drawn[1] and WMSELoss(6)(*z) == drawn[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whitening_of_at_most_as_many_rows_as_columns_stays_bounded(dtype):
    """The covariance of n rows has rank n - 1: the other directions get the variance of the added diagonal."""
    x = embeddings(4, width=6).to(dtype).requires_grad_()
    y = whiten(x)
    (y * torch.arange(24.0).view(4, 6).sin()).sum().backward()
    assert y.detach().abs().max() < 2 and x.grad.abs().max() < 1e3
    assert torch.linalg.matrix_rank(y.detach(), atol=1e-3) == 3


@pytest.mark.parametrize(("name", "value"), [("whitening_size", 0), ("iterations", 0), ("eps", 1.0), ("eps", -0.1)])
def test_bad_constructor_arguments_raise(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* got {value}"):
        WMSELoss(**{name: value})


def test_bad_inputs_raise():
    z = embeddings(), embeddings(seed=1)
    with pytest.raises(ValueError, match="at least 2 views, got 1"):
        WMSELoss()(z[0])
    with pytest.raises(ValueError, match="must have the same shape"):
        WMSELoss()(z[0], z[1], z[1][:5])
    with pytest.raises(ValueError, match="must divide the batch of 12 images, got 5"):
        WMSELoss(5)(*z)
    with pytest.raises(ValueError, match=r"permutations must be \(1, 12\), got \(2, 12\)"):
        WMSELoss(6)(*z, permutations=torch.arange(12).expand(2, 12))
    with pytest.raises(ValueError, match="at least 2 rows"):
        whiten(torch.ones(1, 3))
    with pytest.raises(ValueError, match="eps must be"):
        whiten(z[0], 1.0)
