"""Collectives that autograd sees through, so that N processes give the gradient of one on the joined batch.

With the gradients averaged over the processes (as DistributedDataParallel does), a loss is right when it is either
the mean of per-process means, or computed alike on every process from gathered or summed tensors: the backward
passes below add the gradients of all processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = [
    "all_reduce_sum",
    "batch_center",
    "batch_normalize",
    "gather",
    "is_distributed",
    "rank",
    "world_size",
]


def is_distributed() -> bool:
    """Whether a process group of more than one process is running."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """This process's index, 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def gather(x: Tensor) -> Tensor:
    """Joins the tensors of all processes along dimension 0, in rank order.

    Args:
        x: (N, ...), of the same shape in every process.

    Returns:
        (world_size * N, ...); gradients flow back to the process each row came from.
    """
    if not is_distributed():
        return x
    joined: Tensor = _Gather.apply(x)
    return joined


def all_reduce_sum(x: Tensor) -> Tensor:
    """Adds the tensors of all processes; the gradient is added over the processes too."""
    if not is_distributed():
        return x
    total: Tensor = _AllReduceSum.apply(x)
    return total


def batch_center(x: Tensor) -> Tensor:
    """Subtracts from each column of x (N, D) its mean over the rows of all processes."""
    return x - all_reduce_sum(x.sum(0)) / (world_size() * len(x))


def batch_normalize(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Batch normalisation over the rows of all processes, by this batch's statistics, without scale and shift.

    Equal to `torch.nn.SyncBatchNorm(D, affine=False)` in training mode (biased variance), on any device.

    Args:
        x: (N, D), of the same shape in every process.
        eps: Added to the variance, > 0.

    Returns:
        (N, D), each column of mean 0 and variance 1 over the rows of all processes.
    """
    x = batch_center(x)
    variance = all_reduce_sum(x.square().sum(0)) / (world_size() * len(x))
    return x * torch.rsqrt(variance + eps)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.rows = x.shape[0]
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous().clone()
        dist.all_reduce(grad)
        start = dist.get_rank() * ctx.rows
        return grad[start : start + ctx.rows]


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous().clone()
        dist.all_reduce(grad)
        return grad
