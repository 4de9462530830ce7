"""Collectives that autograd sees through, so that N processes give the gradient of one on the joined batch.

With the gradients averaged over the processes (as DistributedDataParallel does), a loss is right when it is either
the mean of per-process means, or computed alike on every process from gathered or summed tensors: the backward
passes below add the gradients of all processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from ssl_lib.errors import ConfigError
from ssl_lib.launch import processes_started

__all__ = [
    "all_reduce_sum",
    "average",
    "barrier",
    "batch_center",
    "batch_moments",
    "batch_normalize",
    "gather",
    "gather_objects",
    "gather_uneven",
    "in_any",
    "is_distributed",
    "local_world_size",
    "processes_started",
    "rank",
    "share",
    "started",
    "world_size",
]

_THREADS_REST = 0.1
"""Seconds in which gloo's threads let go of the last collective's tensors: one that still waits for the GIL when Python
ends aborts the process. They outlive the group where something holds it, as FSDP2's caches do."""


@contextmanager
def started() -> Iterator[None]:
    """Joins the processes that torchrun or srun started, as their environment says; alone, it does nothing.

    Tensors on CUDA go by nccl, each process on the card of its local rank, those on the CPU by gloo. The group ends
    with the context. A group that runs already is left as it is.

    Raises:
        ConfigError: There are fewer CUDA devices than processes on this machine.
    """
    if processes_started() == 1 or dist.is_initialized():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda and torch.cuda.device_count() > 1:  # one alone is what srun --gpus-per-task=1 shows to each process
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        here = max(local_rank + 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        if here > torch.cuda.device_count():
            raise ConfigError(
                f"{here} processes were started on a machine with {torch.cuda.device_count()} CUDA devices: start as "
                "many as there are devices"
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    yield
    dist.destroy_process_group()  # not where an error ends this process: others may hang in a collective
    time.sleep(_THREADS_REST)


def is_distributed() -> bool:
    """Whether a process group of more than one process is running."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """This process's index, 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def local_world_size() -> int:
    """Number of processes on this machine, as torchrun or srun says; 1 without a process group."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_distributed() else 1


def share(x: Tensor) -> Tensor:
    """This process's rows: every world_size-th, from its rank on.

    Taken in this way, the k-th parts of all processes' shares hold together what the k-th part of the whole does, so
    that micro-batches are those of a single process.
    """
    return x[rank() :: world_size()]


def gather_uneven(x: Tensor) -> Tensor:
    """Joins tensors (N, ...) along dimension 0 in rank order, where N may differ between processes; no gradient."""
    if not is_distributed():
        return x
    counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
    rows = [int(count) for count in counts]
    padded = torch.cat((x, x.new_zeros(max(rows) - len(x), *x.shape[1:])))
    parts = [torch.empty_like(padded) for _ in rows]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])


def gather_objects(value: Any) -> list[Any]:
    """Plain values of all processes, in rank order."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


@torch.no_grad()
def average(x: Tensor) -> Tensor:
    """The mean over the processes, without gradient."""
    return all_reduce_sum(x) / world_size()


def in_any(flag: bool) -> bool:
    """Whether a flag is set in any process."""
    if not is_distributed():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"  # of the groups of `started`, one that no GPU waits for
    return bool(all_reduce_sum(torch.tensor(float(flag), device=device)).item())


def barrier() -> None:
    """Waits for all processes."""
    if is_distributed():
        dist.barrier()


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


def batch_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of x (N, C, ...) over the images of all processes, both (1, C, 1...)."""
    dims = [0, *range(2, x.ndim)]
    count = world_size() * x.numel() / x.shape[1]
    mean = all_reduce_sum(x.sum(dims, keepdim=True)) / count
    variance = all_reduce_sum((x - mean).square().sum(dims, keepdim=True)) / count
    return mean, variance


def batch_normalize(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Batch normalisation over the rows of all processes, by this batch's statistics, without scale and shift.

    Equal to `torch.nn.SyncBatchNorm(D, affine=False)` in training mode (biased variance), on any device.

    Args:
        x: (N, D), of the same shape in every process.
        eps: Added to the variance, > 0.

    Returns:
        (N, D), each column of mean 0 and variance 1 over the rows of all processes.
    """
    mean, variance = batch_moments(x)
    return (x - mean) * torch.rsqrt(variance + eps)


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
