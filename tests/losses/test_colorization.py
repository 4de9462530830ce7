"""The colorization loss against numpy, its class weights, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.losses import ColorizationLoss

P, K = 7, 5


def points(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits, scores = torch.randn(2, P, K, dtype=torch.float64, generator=generator)
    return logits.clone().requires_grad_(), (3 * scores).softmax(1)


def weights_of(frequencies: np.ndarray, uniform: float) -> np.ndarray:
    p = frequencies / frequencies.sum()
    weights = np.array([1 / ((1 - uniform) * value + uniform / len(p)) for value in p])
    return weights / np.dot(p, weights)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0])
def test_loss_equals_numpy(uniform):
    logits, targets = points()
    frequencies, mask = np.array([5.0, 1.0, 2.0, 8.0, 0.5]), np.array([1, 0, 1, 1, 0.5, 1, 1])
    loss = ColorizationLoss(K, uniform).double()
    loss.rebalance(torch.from_numpy(frequencies))
    weights, total = weights_of(frequencies, uniform), 0.0
    for z, q, m in zip(logits.detach().numpy(), targets.numpy(), mask, strict=True):
        total += m * weights[q.argmax()] * sum(q[k] * (np.log(np.exp(z).sum()) - z[k]) for k in range(K))
    found = loss(logits, targets, torch.from_numpy(mask))
    torch.testing.assert_close(found, torch.tensor(total / P, dtype=torch.float64), rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets, torch.from_numpy(mask)), (logits,))


def test_weights_average_to_one_and_rare_classes_weigh_more():
    loss, frequencies = ColorizationLoss(K), torch.tensor([16.0, 8.0, 4.0, 2.0, 0.0])
    loss.rebalance(frequencies)
    assert (loss.weights.diff() > 0).all()
    torch.testing.assert_close((loss.weights * frequencies / 30).sum(), torch.tensor(1.0))


@pytest.mark.parametrize("uniform", [0.0, 0.5])
def test_weights_are_finite_without_frequencies_of_some_or_all_classes(uniform):
    loss = ColorizationLoss(K, uniform)
    loss.rebalance(torch.tensor([3.0, 0.0, 1.0, 0.0, 0.0]))
    assert loss.weights.isfinite().all() and loss.weights[1] >= loss.weights[2] > loss.weights[0]
    loss.rebalance(torch.zeros(K))
    assert torch.equal(loss.weights, torch.ones(K))


def test_uniform_weights_give_the_plain_cross_entropy_until_rebalanced():
    logits, targets = points()
    plain = torch.nn.functional.cross_entropy(logits, targets)
    torch.testing.assert_close(ColorizationLoss(K).double()(logits, targets), plain, rtol=1e-12, atol=0)


def test_no_gradient_reaches_the_targets():
    logits, targets = points()
    targets.requires_grad_()
    ColorizationLoss(K).double()(logits, targets).backward()
    assert targets.grad is None and logits.grad is not None


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"uniform in \[0, 1\], got 5 and 1.5"):
        ColorizationLoss(5, 1.5)
    with pytest.raises(ValueError, match="logits and targets must have the same shape"):
        ColorizationLoss(5)(torch.rand(3, 5), torch.rand(3, 4))
