"""The process group: joining it, this process's place in it, and its rows of a batch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ssl_lib.errors import ConfigError
from ssl_lib.utils.launcher import processes_started

__all__ = [
    "barrier",
    "gather_objects",
    "is_distributed",
    "local_world_size",
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


def gather_objects(value: Any) -> list[Any]:
    """Plain values of all processes, in rank order."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Waits for all processes."""
    if is_distributed():
        dist.barrier()
