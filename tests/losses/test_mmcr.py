"""MMCR against the formula in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.losses import MMCRLoss


def embeddings(images=6, views=3, width=4, seed=0):
    return torch.randn(images, views, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(x):
    return x.numpy() / np.linalg.norm(x.numpy(), axis=-1, keepdims=True)


def nuclear_norm(matrix):
    """The sum of the square roots of the eigenvalues of the smaller Gram matrix."""
    gram = matrix.T @ matrix if len(matrix) >= matrix.shape[1] else matrix @ matrix.T
    return np.sqrt(np.linalg.eigvalsh(gram).clip(0)).sum()


@pytest.mark.parametrize("images", [3, 6])
@pytest.mark.parametrize("local_weight", [0.0, 0.4])
@pytest.mark.parametrize("with_teacher", [False, True])
def test_value_equals_the_formula(with_teacher, local_weight, images):
    z, momentum = embeddings(images), embeddings(images, views=2, seed=1)
    centroids = unit(z).mean(1)
    if with_teacher:
        centroids = (centroids + unit(momentum).mean(1)) / 2
    local = np.mean([nuclear_norm(image) for image in unit(z)])
    loss = MMCRLoss(local_weight)(z, momentum if with_teacher else None)
    assert loss.item() == pytest.approx(local_weight * local - nuclear_norm(centroids), rel=1e-10)


@pytest.mark.parametrize("local_weight", [0.0, 0.4])
def test_gradient_matches_finite_differences(local_weight):
    z, momentum = embeddings().requires_grad_(), embeddings(seed=1).requires_grad_()
    assert torch.autograd.gradcheck(MMCRLoss(local_weight), (z, momentum))


def test_values_of_spread_and_of_collapsed_embeddings():
    spread = torch.eye(4, dtype=torch.float64)[:, None].expand(4, 3, 4)
    assert MMCRLoss()(spread).item() == pytest.approx(-4)  # four singular values of 1
    assert MMCRLoss()(torch.ones_like(spread)).item() == pytest.approx(-2)  # one of sqrt(4)


def test_directions_without_variance_get_no_gradient():
    z = torch.nn.functional.pad(embeddings(width=2), (0, 2)).requires_grad_()
    MMCRLoss()(z).backward()
    assert z.grad[..., :2].abs().max() > 0.01 and not z.grad[..., 2:].any()


def test_a_non_finite_embedding_gives_nan():
    z = embeddings()
    z[1, 0, 2] = torch.nan
    assert MMCRLoss()(z).isnan()


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match=r"local_weight must be .* got -1"):
        MMCRLoss(-1.0)
    with pytest.raises(ValueError, match=r"z must be a float tensor \(N, V, D\).*\(4, 3\)"):
        MMCRLoss()(torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"momentum must be .* got torch.float32 of shape \(4, 2, 5\)"):
        MMCRLoss()(torch.ones(4, 2, 3), torch.ones(4, 2, 5))
