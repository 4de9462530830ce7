"""Sinkhorn and the losses of SwAV and DeepCluster v2 against the formulas in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.losses import DeepClusterV2Loss, SwAVLoss, cross_entropy, sinkhorn


def scores(count=8, seed=0, dtype=torch.float64):
    x = torch.randn(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (x / x.norm(dim=1, keepdim=True)).to(dtype)


def codes(x, epsilon, iterations):
    """Equation 4 of the paper as its repository computes it."""
    q = np.exp(x.numpy() / epsilon).T
    q /= q.sum()
    prototypes, count = q.shape
    for _ in range(iterations):
        q /= q.sum(1, keepdims=True) * prototypes
        q /= q.sum(0, keepdims=True) * count
    return (q * count).T


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.5, 1), (0.1, 10)])
def test_sinkhorn_equals_the_reference(epsilon, iterations):
    found = sinkhorn(scores(), epsilon, iterations)
    np.testing.assert_allclose(found.numpy(), codes(scores(), epsilon, iterations), rtol=1e-10)


def test_sinkhorn_converges_to_equal_shares():
    found = sinkhorn(scores(20), 0.1, 200)
    np.testing.assert_allclose(found.sum(1), np.ones(20), rtol=1e-12)
    np.testing.assert_allclose(found.sum(0), np.full(5, 4.0), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e4, 1e6])
def test_sinkhorn_of_huge_scores_is_finite(scale):
    found = sinkhorn(scale * scores(dtype=torch.float32), 0.05)
    assert found.isfinite().all() and found.dtype == torch.float32
    torch.testing.assert_close(found.sum(1), torch.ones(8))


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("views", [2, 4])
def test_swav_equals_the_reference(views, queued):
    made = [scores(seed=seed) for seed in range(views)]
    queue = [scores(6, seed=10 + view) for view in range(2)] if queued else None
    total = 0.0
    for view in range(2):
        stacked = torch.cat([queue[view], made[view]]) if queue else made[view]
        target = codes(stacked, 0.05, 3)[-8:]
        others = [log_softmax(made[other].numpy() / 0.1) for other in range(views) if other != view]
        total += sum(-(target * other).sum(1).mean() for other in others) / (views - 1)
    assert SwAVLoss()(made, queue).item() == pytest.approx(total / 2, rel=1e-10)


def test_swav_gradient_does_not_flow_through_the_assignments():
    inputs = [scores(seed=seed).requires_grad_() for seed in range(3)]
    targets = [sinkhorn(x) for x in inputs[:2]]
    SwAVLoss()(inputs).backward()
    logs = [torch.log_softmax(x / 0.1, 1) for x in inputs]
    pairs = [(view, other) for view in range(2) for other in range(3) if other != view]
    expected = torch.stack([-(targets[view] * logs[other]).sum(1).mean() for view, other in pairs]).mean()
    for x, gradient in zip(inputs, torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(x.grad, gradient, rtol=1e-10, atol=1e-12)


def test_deepcluster_ignores_images_without_a_cluster():
    x = scores().requires_grad_()
    assigned = torch.tensor([0, -100, 3, 4, -100, 1, 1, 2])
    kept = assigned >= 0
    logs = log_softmax(x.detach().numpy() / 0.2)[kept.numpy()]
    expected = -logs[np.arange(6), assigned[kept].numpy()].mean()
    assert DeepClusterV2Loss(0.2)(x, assigned).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: DeepClusterV2Loss(0.2)(x, assigned), (x,))
    nothing = DeepClusterV2Loss(0.2)(x, torch.full((8,), -100))
    nothing.backward()
    assert nothing == 0 and not x.grad.any()


def test_cross_entropy_in_low_precision_is_float32():
    x, targets = scores().bfloat16(), torch.arange(8) % 5
    assert torch.equal(cross_entropy(x, targets), torch.nn.functional.cross_entropy(x.float(), targets))
    with torch.autocast("cpu", torch.bfloat16):
        assert cross_entropy(x, targets).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SwAVLoss()([scores()]), r"at least 2 views, got \[\(8, 5\)\]"),
        (lambda: SwAVLoss()([scores(), scores(7)]), r"at least 2 views, got \[\(8, 5\), \(7, 5\)\]"),
        (lambda: SwAVLoss(epsilon=0), "epsilon must be positive"),
        (lambda: DeepClusterV2Loss()(scores(), torch.zeros(7, dtype=torch.int64)), r"got \(8, 5\) and \(7,\)"),
    ],
)
def test_wrong_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()
