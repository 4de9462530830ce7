"""Parameters, gradients and a training loop for the tests of LARS."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

SHAPES = [(7, 5), (4, 3, 3, 3), (6,), (), (1, 1, 8)]


def make_params(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in SHAPES]


def make_grads(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [0.3 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def train(
    optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: range, edit: Callable[[list[Tensor]], None]
) -> None:
    """Runs the optimizer on `make_grads`, edited by `edit`, with a learning rate that increases per step."""
    for step in steps:
        grads = make_grads(step)
        edit(grads)
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.to(param.dtype)
        optimizer.param_groups[0]["lr"] = 0.2 + 0.1 * step
        optimizer.step()


def unchanged(grads: list[Tensor]) -> None:
    """An `edit` for `train` that keeps the gradients."""
