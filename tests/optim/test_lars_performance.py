"""LARS steps without device syncs or large allocations, in any memory format."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_lib.optim import LARS, param_groups
from tests.optim.lars_helper import make_grads, make_params, train, unchanged


class NoHostSync(TorchDispatchMode):
    """Fails on any operation that copies a value from the device to the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value was copied to the host"
        assert func is not torch.ops.aten.nonzero.default, "a size was copied to the host"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("clip_lr", [False, True])
def test_step_does_not_sync_with_the_device(clip_lr):
    params = make_params()
    optimizer = LARS(params, lr=0.1, weight_decay=0.1, clip_lr=clip_lr)
    with NoHostSync():
        for param, grad in zip(params, make_grads(0), strict=True):
            param.grad = grad.to(param.dtype)
        optimizer.step()
    with pytest.raises(AssertionError, match="copied to the host"), NoHostSync():
        params[0].sum().item()


@pytest.mark.parametrize("clip_lr", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_step_allocates_no_tensor_of_parameter_size(clip_lr, memory_format):
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
    assert step() >= parameters  # the first step allocates the momentum buffers
    assert step() < 0.2 * parameters / 2  # all allocations are below a fifth of one weight


def test_channels_last_weights_with_contiguous_gradients_give_the_same_result():
    params, twins = make_params(), make_params()
    params[1].data = params[1].data.contiguous(memory_format=torch.channels_last)
    train(LARS(params, lr=0.1, weight_decay=0.1), params, range(3), unchanged)
    train(LARS(twins, lr=0.1, weight_decay=0.1), twins, range(3), unchanged)
    torch.testing.assert_close(params[1], twins[1], rtol=1e-6, atol=1e-7)
