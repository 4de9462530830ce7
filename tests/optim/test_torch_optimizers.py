"""SGD and AdamW compared with their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_lib.optim import param_groups
from ssl_lib.registry import OPTIMIZERS


def test_sgd_equals_the_formula():
    param = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = OPTIMIZERS["sgd"]([param], lr=0.1, weight_decay=0.5)
    value, buffer = 2.0, 0.0
    for grad in (1.0, -3.0, 0.5):
        param.grad = torch.tensor([grad], dtype=torch.float64)
        optimizer.step()
        buffer = 0.9 * buffer + grad + 0.5 * value
        value -= 0.1 * buffer
    assert param.item() == pytest.approx(value, rel=1e-14)


def test_sgd_with_nesterov_equals_the_formula():
    param = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    param.grad = torch.ones_like(param)
    OPTIMIZERS["sgd"]([param], lr=0.1, nesterov=True).step()
    assert param.item() == pytest.approx(2.0 - 0.1 * 1.9, rel=1e-14)


def test_adamw_equals_the_formula():
    param = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = OPTIMIZERS["adamw"]([param], lr=0.1, weight_decay=0.5, betas=(0.8, 0.95), eps=1e-3)
    value, mean, square = 2.0, 0.0, 0.0
    for step, grad in enumerate((1.0, -3.0, 0.5), start=1):
        param.grad = torch.tensor([grad], dtype=torch.float64)
        optimizer.step()
        value -= 0.1 * 0.5 * value
        mean, square = 0.8 * mean + 0.2 * grad, 0.95 * square + 0.05 * grad**2
        value -= 0.1 * (mean / (1 - 0.8**step)) / ((square / (1 - 0.95**step)) ** 0.5 + 1e-3)
    assert param.item() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_every_optimizer_accepts_param_groups_and_reduces_the_loss(name):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))
    inputs, targets = torch.randn(32, 4), torch.randn(32, 1)
    optimizer = OPTIMIZERS[name](param_groups(module, 1e-4), lr=0.02)
    losses = []
    for _ in range(20):
        loss = (module(inputs) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
