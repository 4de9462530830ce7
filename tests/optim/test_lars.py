"""LARS optimizer compared with its formula in numpy, and its arguments and state."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_lib.optim import LARS
from ssl_lib.registry import OPTIMIZERS
from tests.optim.lars_helper import make_grads, make_params, train, unchanged


def larc_factor(p: np.ndarray, g: np.ndarray, d: np.ndarray, *, wd: float, eta: float, lr: float, clip: bool) -> float:
    """Factor of LARS, or of the clipped LARC rule of apex and solo-learn, for norms above zero."""
    p_norm = np.sqrt((p * p).sum())
    if clip:
        return min(eta * p_norm / (np.sqrt((g * g).sum()) + wd * p_norm + 1e-8) / lr, 1.0)
    return eta * p_norm / np.sqrt((d * d).sum())


def reference(
    params: list[nn.Parameter],
    steps: range,
    edit: Callable[[list[Tensor]], None],
    *,
    momentum: float = 0.9,
    wd: float,
    eta: float,
    adapt: bool = True,
    clip: bool = False,
) -> list[np.ndarray]:
    """Parameters after the given steps, computed from the formula in float64 numpy."""
    weights = [param.detach().double().numpy().copy() for param in params]
    buffers = [np.zeros_like(weight) for weight in weights]
    for step in steps:
        grads, lr = make_grads(step), 0.2 + 0.1 * step
        edit(grads)
        for i, (p, g) in enumerate(zip(weights, (grad.numpy() for grad in grads), strict=True)):
            d = g + wd * p
            norm_of = g if clip else d
            if adapt and np.any(p) and np.any(norm_of):
                d = d * larc_factor(p, g, d, wd=wd, eta=eta, lr=lr, clip=clip)
            elif adapt and clip:
                d = g
            buffers[i] = momentum * buffers[i] + d
            weights[i] = p - lr * buffers[i]
    return weights


def zero_two(grads: list[Tensor]) -> None:
    """An `edit` for `train` that sets two gradients to zero."""
    grads[0].zero_()
    grads[2].zero_()


@pytest.mark.parametrize("clip_lr", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("edit", [unchanged, zero_two])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_five_steps_equal_the_formula(clip_lr, weight_decay, edit, dtype, tolerance):
    params = make_params(dtype)
    with torch.no_grad():
        params[1].zero_()
    expected = reference(params, range(5), edit, wd=weight_decay, eta=0.02, clip=clip_lr)
    start = [param.detach().clone() for param in params]
    optimizer = LARS(params, lr=9.0, weight_decay=weight_decay, trust_coefficient=0.02, clip_lr=clip_lr)
    train(optimizer, params, range(5), edit)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().double().numpy(), value, rtol=tolerance, atol=tolerance)
    assert not torch.equal(params[1], start[1])  # weights that start at zero are updated
    moved_without_gradient = weight_decay > 0 and not clip_lr
    if edit is zero_two:
        assert torch.equal(params[0], start[0]) != moved_without_gradient


def test_clipped_rule_with_a_large_trust_coefficient_is_sgd():
    params, twins = make_params(torch.float64), make_params(torch.float64)
    train(LARS(params, lr=1.0, weight_decay=0.1, trust_coefficient=1e6, clip_lr=True), params, range(3), unchanged)
    train(torch.optim.SGD(twins, lr=1.0, momentum=0.9, weight_decay=0.1), twins, range(3), unchanged)
    for param, twin in zip(params, twins, strict=True):
        torch.testing.assert_close(param, twin, rtol=1e-12, atol=1e-12)


def test_groups_use_their_own_values_and_adapt_false_is_sgd():
    params = make_params()
    groups = [
        {"params": params[:2], "weight_decay": 0.1},
        {"params": params[2:4], "adapt": False, "momentum": 0.5},
        {"params": params[4:], "trust_coefficient": 0.5, "lr": 0.2},
    ]
    expected = [
        *reference(params, range(1), unchanged, wd=0.1, eta=0.001)[:2],
        *reference(params, range(1), unchanged, wd=0.0, eta=0.0, adapt=False, momentum=0.5)[2:4],
        *reference(params, range(1), unchanged, wd=0.0, eta=0.5)[4:],
    ]
    train(LARS(groups, lr=0.2), params, range(1), unchanged)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().numpy(), value, rtol=1e-6, atol=1e-6)


def test_parameters_without_gradient_are_unchanged():
    params = make_params()
    start = params[1].detach().clone()
    optimizer = LARS(params, lr=0.1, weight_decay=0.1)
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert torch.equal(params[1], start)
    assert list(optimizer.state) == [params[0]]


def test_one_group_may_mix_dtypes():
    params = [nn.Parameter(torch.full((4, 4), 2.0, dtype=dtype)) for dtype in (torch.float32, torch.float64)]
    for param in params:
        param.grad = torch.full_like(param, 0.5)
    LARS(params, lr=1.0, trust_coefficient=0.25).step()
    for param in params:  # |p| = 8, |g| = 2, so d = .25 * 4 * g = .5
        torch.testing.assert_close(param.detach(), torch.full_like(param, 1.5))


@pytest.mark.parametrize("clip_lr", [False, True])
def test_restored_optimizer_continues_bit_for_bit(clip_lr):
    params = make_params()
    optimizer = LARS(params, lr=0.1, weight_decay=0.01, clip_lr=clip_lr)
    train(optimizer, params, range(3), unchanged)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    twins = [nn.Parameter(param.detach().clone()) for param in params]
    restored = LARS(twins, lr=5.0)
    restored.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    train(optimizer, params, range(3, 6), unchanged)
    train(restored, twins, range(3, 6), unchanged)
    for param, twin in zip(params, twins, strict=True):
        assert torch.equal(param, twin)


def test_norm_of_a_large_weight_is_accurate_to_six_digits():
    param = nn.Parameter(torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0)))
    param.grad = torch.ones_like(param)
    before, norm = param.detach().clone(), param.detach().double().norm().item()
    LARS([param], lr=1.0, trust_coefficient=1.0).step()
    moved = (before.double() - param.detach().double()).mean().item()  # |p| / |g| = |p| / 1024
    assert moved == pytest.approx(norm / 1024, rel=1e-6)


def test_step_with_a_closure_returns_its_loss():
    param = nn.Parameter(torch.tensor([[3.0]]))
    optimizer = LARS([param], lr=1.0, trust_coefficient=0.5)

    def closure() -> float:
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 9.0
    assert param.item() == pytest.approx(3.0 - 0.5 * 3.0)


def test_step_through_a_grad_scaler_equals_a_plain_step():
    params, twins = make_params(), make_params()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer, plain = LARS(params, lr=0.1, weight_decay=0.1), LARS(twins, lr=0.1, weight_decay=0.1)
    for param, twin in zip(params, twins, strict=True):
        scaler.scale(param.square().sum()).backward()
        twin.square().sum().backward()
    scaler.step(optimizer)
    plain.step()
    for param, twin in zip(params, twins, strict=True):
        assert torch.equal(param, twin)
    before = params[0].detach().clone()
    params[0].grad = torch.full_like(params[0], float("inf"))
    scaler.update()
    scaler.step(optimizer)
    assert torch.equal(params[0], before)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": -0.1}, "lr must be at least 0, got -0.1"),
        ({"lr": float("nan")}, "lr must be at least 0, got nan"),
        ({"lr": 0.1, "momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"lr": 0.1, "weight_decay": -1e-6}, "weight_decay must be at least 0, got -1e-06"),
        ({"lr": 0.1, "trust_coefficient": 0.0}, "trust_coefficient must be above 0, got 0.0"),
        ({"lr": 0.1, "eps": -1.0}, "eps must be at least 0, got -1.0"),
    ],
)
def test_bad_arguments_raise(values, message):
    with pytest.raises(ValueError, match=message):
        LARS(make_params(), **values)


def test_bad_group_value_raises():
    with pytest.raises(ValueError, match="weight_decay must be at least 0, got -1"):
        LARS([{"params": make_params(), "weight_decay": -1}], lr=0.1)


def test_sparse_gradient_raises():
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"shape \(4, 2\) is sparse"):
        LARS(embedding.parameters(), lr=0.1).step()


def test_lars_is_registered():
    assert OPTIMIZERS["lars"] is LARS
