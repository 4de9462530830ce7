"""Differentiable collectives: N processes compute the same gradient as one process on the joined batch.

The backward passes below sum the gradients of all processes. DistributedDataParallel then averages gradients over the
processes. Together they give the right gradient for two kinds of losses: a mean over this process's images, and a loss
that every process computes from the same gathered or summed tensors.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor, distribute_tensor

from ssl_lib.distributed.process_group import is_distributed, world_size

__all__ = [
    "all_reduce_sum",
    "average",
    "batch_center",
    "batch_moments",
    "batch_normalize",
    "gather",
    "gather_uneven",
    "in_any",
    "joined",
    "local",
    "set_unsharded",
    "unsharded",
]


def local(x: Tensor) -> Tensor:
    """This process's part of a sharded tensor (DTensor), without gradient; other tensors are returned unchanged."""
    with torch.no_grad():
        return x.to_local() if isinstance(x, DTensor) else x


def unsharded(x: Tensor) -> Tensor:
    """All of a sharded tensor (DTensor), without gradient; all processes must call it together."""
    with torch.no_grad():
        return x.full_tensor() if isinstance(x, DTensor) else x


@torch.no_grad()
def set_unsharded(x: Tensor, value: Tensor) -> None:
    """Sets a tensor, which may be sharded, to the same value in all processes, which must call it together."""
    value = value.to(x.device, x.dtype)
    x.copy_(distribute_tensor(value, x.device_mesh, x.placements) if isinstance(x, DTensor) else value)


def gather_uneven(x: Tensor) -> Tensor:
    """Joins tensors (N, ...) along dimension 0, in rank order; N may differ between processes. No gradient."""
    if not is_distributed():
        return x
    counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
    rows = [int(count) for count in counts]
    padded = torch.cat((x, x.new_zeros(max(rows) - len(x), *x.shape[1:])))
    parts = [torch.empty_like(padded) for _ in rows]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])


@torch.no_grad()
def average(x: Tensor) -> Tensor:
    """Mean over the processes, without gradient."""
    return all_reduce_sum(x) / world_size()


def in_any(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if not is_distributed():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"  # with `started`, gloo reduces it without a GPU sync
    return bool(all_reduce_sum(torch.tensor(float(flag), device=device)).item())


def gather(x: Tensor) -> Tensor:
    """Joins the tensors of all processes along dimension 0, in rank order.

    Args:
        x: (N, ...), with the same shape in every process.

    Returns:
        (world_size * N, ...). Gradients flow back to the process that each row came from.
    """
    if not is_distributed():
        return x
    joined: Tensor = _Gather.apply(x)
    return joined


def joined(x: Tensor) -> Tensor:
    """Joins the rows (N, ...) of all processes in the order of the joined batch: undoes `share`. No gradient."""
    if not is_distributed():
        return x
    ranks = gather(x.detach()).view(world_size(), *x.shape)
    return ranks.transpose(0, 1).flatten(0, 1)


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sums the tensors of all processes; the backward pass sums the gradients of all processes."""
    if not is_distributed():
        return x
    total: Tensor = _AllReduceSum.apply(x)
    return total


def batch_center(x: Tensor) -> Tensor:
    """Centers each column of x (N, D) by its mean over the rows of all processes."""
    return x - all_reduce_sum(x.sum(0)) / (world_size() * len(x))


def batch_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel of x (N, C, ...) over the images of all processes, each (1, C, 1, ...)."""
    dims = [0, *range(2, x.ndim)]
    count = world_size() * x.numel() / x.shape[1]
    mean = all_reduce_sum(x.sum(dims, keepdim=True)) / count
    variance = all_reduce_sum((x - mean).square().sum(dims, keepdim=True)) / count
    return mean, variance


def batch_normalize(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Batch normalization with the batch statistics of all processes, without scale and shift.

    Equals `torch.nn.SyncBatchNorm(D, affine=False)` in training mode (biased variance), on any device.

    Args:
        x: (N, D), with the same shape in every process.
        eps: Added to the variance, > 0.

    Returns:
        (N, D); each column has mean 0 and variance 1 over the rows of all processes. A column whose variance overflows
        is NaN, not zero.
    """
    mean, variance = batch_moments(x)
    return (x - mean) * torch.rsqrt(variance.masked_fill(variance.isinf(), torch.nan) + eps)


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
