from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_lib.optim import LARS, param_groups
from ssl_lib.registry import OPTIMIZERS

SHAPES = [(7, 5), (4, 3, 3, 3), (6,), (), (1, 1, 8)]


def make_params(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in SHAPES]


def make_grads(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [0.3 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def train(optimizer: LARS, params: list[nn.Parameter], steps: range, edit: Callable[[list[Tensor]], None]) -> None:
    for step in steps:
        grads = make_grads(step)
        edit(grads)
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.to(param.dtype)
        optimizer.param_groups[0]["lr"] = 0.2 + 0.1 * step
        optimizer.step()


def larc_factor(p: np.ndarray, g: np.ndarray, d: np.ndarray, *, wd: float, eta: float, lr: float, clip: bool) -> float:
    """Zero norms aside: the written rule of LARS, and the clipped one of apex and solo-learn."""
    p_norm = np.sqrt((p * p).sum())
    if clip:
        return min(eta * p_norm / (np.sqrt((g * g).sum()) + wd * p_norm + 1e-8) / lr, 1.0)
    return eta * p_norm / np.sqrt((d * d).sum())


def reference(
    params: list[nn.Parameter], steps: range, edit: Callable[[list[Tensor]], None], *, momentum: float = 0.9,
    wd: float, eta: float, adapt: bool = True, clip: bool = False,
) -> list[np.ndarray]:  # fmt: skip
    weights = [param.detach().double().numpy().copy() for param in params]
    buffers = [np.zeros_like(weight) for weight in weights]
    for step in steps:
        grads, lr = make_grads(step), 0.2 + 0.1 * step
        edit(grads)
        for i, (p, g) in enumerate(zip(weights, (grad.numpy() for grad in grads), strict=True)):
            d = g + wd * p
            tested = g if clip else d
            if adapt and np.any(p) and np.any(tested):
                d = d * larc_factor(p, g, d, wd=wd, eta=eta, lr=lr, clip=clip)
            elif adapt and clip:
                d = g
            buffers[i] = momentum * buffers[i] + d
            weights[i] = p - lr * buffers[i]
    return weights


def nothing(grads: list[Tensor]) -> None: ...


def zero_two(grads: list[Tensor]) -> None:
    grads[0].zero_()
    grads[2].zero_()


@pytest.mark.parametrize("clip_lr", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("edit", [nothing, zero_two])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_five_steps_equal_the_written_rule(clip_lr, weight_decay, edit, dtype, tolerance):
    params = make_params(dtype)
    with torch.no_grad():
        params[1].zero_()
    expected = reference(params, range(5), edit, wd=weight_decay, eta=0.02, clip=clip_lr)
    start = [param.detach().clone() for param in params]
    optimizer = LARS(params, lr=9.0, weight_decay=weight_decay, trust_coefficient=0.02, clip_lr=clip_lr)
    train(optimizer, params, range(5), edit)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().double().numpy(), value, rtol=tolerance, atol=tolerance)
    assert not torch.equal(params[1], start[1])  # weights that start at zero do move
    moved_without_gradient = weight_decay > 0 and not clip_lr
    if edit is zero_two:
        assert torch.equal(params[0], start[0]) != moved_without_gradient


def test_clipped_rule_with_a_large_trust_coefficient_is_sgd():
    params, twins = make_params(torch.float64), make_params(torch.float64)
    train(LARS(params, lr=1.0, weight_decay=0.1, trust_coefficient=1e6, clip_lr=True), params, range(3), nothing)
    train(torch.optim.SGD(twins, lr=1.0, momentum=0.9, weight_decay=0.1), twins, range(3), nothing)
    for param, twin in zip(params, twins, strict=True):
        torch.testing.assert_close(param, twin, rtol=1e-12, atol=1e-12)


def test_groups_have_their_own_values_and_adapt_false_is_sgd():
    params = make_params()
    groups = [
        {"params": params[:2], "weight_decay": 0.1},
        {"params": params[2:4], "adapt": False, "momentum": 0.5},
        {"params": params[4:], "trust_coefficient": 0.5, "lr": 0.2},
    ]
    expected = [
        *reference(params, range(1), nothing, wd=0.1, eta=0.001)[:2],
        *reference(params, range(1), nothing, wd=0.0, eta=0.0, adapt=False, momentum=0.5)[2:4],
        *reference(params, range(1), nothing, wd=0.0, eta=0.5)[4:],
    ]
    train(LARS(groups, lr=0.2), params, range(1), nothing)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().numpy(), value, rtol=1e-6, atol=1e-6)


def test_parameters_without_gradient_are_left_alone():
    params = make_params()
    start = params[1].detach().clone()
    optimizer = LARS(params, lr=0.1, weight_decay=0.1)
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert torch.equal(params[1], start)
    assert list(optimizer.state) == [params[0]]


def test_mixed_dtypes_in_one_group():
    params = [nn.Parameter(torch.full((4, 4), 2.0, dtype=dtype)) for dtype in (torch.float32, torch.float64)]
    for param in params:
        param.grad = torch.full_like(param, 0.5)
    LARS(params, lr=1.0, trust_coefficient=0.25).step()
    for param in params:  # |p| = 8, |g| = 2, so d = .25 * 4 * g = .5
        torch.testing.assert_close(param.detach(), torch.full_like(param, 1.5))


@pytest.mark.parametrize("clip_lr", [False, True])
def test_a_restored_optimizer_continues_bit_for_bit(clip_lr):
    params = make_params()
    optimizer = LARS(params, lr=0.1, weight_decay=0.01, clip_lr=clip_lr)
    train(optimizer, params, range(3), nothing)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    twins = [nn.Parameter(param.detach().clone()) for param in params]
    restored = LARS(twins, lr=5.0)
    restored.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    train(optimizer, params, range(3, 6), nothing)
    train(restored, twins, range(3, 6), nothing)
    for param, twin in zip(params, twins, strict=True):
        assert torch.equal(param, twin)


class NoHostSync(TorchDispatchMode):
    """Fails on any operation that copies a value from the device to Python."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value was read back"
        assert func is not torch.ops.aten.nonzero.default, "a size was read back"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("clip_lr", [False, True])
def test_no_value_is_read_back(clip_lr):
    params = make_params()
    optimizer = LARS(params, lr=0.1, weight_decay=0.1, clip_lr=clip_lr)
    with NoHostSync():
        for param, grad in zip(params, make_grads(0), strict=True):
            param.grad = grad.to(param.dtype)
        optimizer.step()
    with pytest.raises(AssertionError, match="read back"), NoHostSync():
        params[0].sum().item()


@pytest.mark.parametrize("clip_lr", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_step_allocates_nothing_of_a_parameters_size(clip_lr, memory_format):
    module = nn.Sequential(nn.Conv2d(64, 32, 3), nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64)).to(
        memory_format=memory_format
    )
    optimizer = LARS(param_groups(module, 0.1), lr=0.1, clip_lr=clip_lr)

    def step() -> int:
        for param in module.parameters():
            param.grad = torch.full_like(param, 0.1)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            optimizer.step()
        return sum(max(0, event.self_cpu_memory_usage) for event in profiled.events())

    parameters = 4 * sum(param.numel() for param in module.parameters())
    assert step() >= parameters  # the first step makes the momentum buffers
    assert step() < 0.2 * parameters / 2  # every allocation together, a fifth of one of the two weights


def test_channels_last_weights_and_contiguous_gradients_agree():
    params, twins = make_params(), make_params()
    params[1].data = params[1].data.contiguous(memory_format=torch.channels_last)
    train(LARS(params, lr=0.1, weight_decay=0.1), params, range(3), nothing)
    train(LARS(twins, lr=0.1, weight_decay=0.1), twins, range(3), nothing)
    torch.testing.assert_close(params[1], twins[1], rtol=1e-6, atol=1e-7)


def test_a_large_weights_norm_is_right_to_six_digits():
    param = nn.Parameter(torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0)))
    param.grad = torch.ones_like(param)
    before, norm = param.detach().clone(), param.detach().double().norm().item()
    LARS([param], lr=1.0, trust_coefficient=1.0).step()
    moved = (before.double() - param.detach().double()).mean().item()  # |p| / |g| = |p| / 1024
    assert moved == pytest.approx(norm / 1024, rel=1e-6)


def test_closure_gives_its_loss_with_gradients_on():
    param = nn.Parameter(torch.tensor([[3.0]]))
    optimizer = LARS([param], lr=1.0, trust_coefficient=0.5)

    def closure() -> float:
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 9.0
    assert param.item() == pytest.approx(3.0 - 0.5 * 3.0)


def test_steps_through_a_grad_scaler_as_without():
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
        ({"lr": 0.1, "momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"lr": 0.1, "weight_decay": -1e-6}, "weight_decay must be at least 0, got -1e-06"),
        ({"lr": 0.1, "trust_coefficient": 0.0}, "trust_coefficient must be above 0, got 0.0"),
        ({"lr": 0.1, "eps": -1.0}, "eps must be at least 0, got -1.0"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(ValueError, match=message):
        LARS(make_params(), **values)


def test_bad_group_value():
    with pytest.raises(ValueError, match="weight_decay must be at least 0, got -1"):
        LARS([{"params": make_params(), "weight_decay": -1}], lr=0.1)


def test_sparse_gradient():
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"shape \(4, 2\) is sparse"):
        LARS(embedding.parameters(), lr=0.1).step()


def test_registered():
    assert OPTIMIZERS["lars"] is LARS
