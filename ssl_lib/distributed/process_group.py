"""The process group: joining it, rank and world size, and this process's rows of a batch."""

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

_GLOO_GRACE = 0.1
"""Seconds in which gloo's threads release the tensors of the last collective. A thread that still waits for the GIL
when Python exits aborts the process. The threads outlive the group if FSDP2's caches, for example, refer to it."""


@contextmanager
def started() -> Iterator[None]:
    """Joins the processes that torchrun or srun started into a process group; does nothing in a single process.

    The environment variables of torchrun or srun define the group. CUDA tensors use nccl, with one GPU per local rank;
    CPU tensors use gloo. The group is destroyed at the end of the context. An existing group is left unchanged.

    Raises:
        ConfigError: This machine has fewer CUDA devices than processes.
    """
    if processes_started() == 1 or dist.is_initialized():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda and torch.cuda.device_count() > 1:  # srun --gpus-per-task=1 makes one visible per process
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        here = max(local_rank + 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        if here > torch.cuda.device_count():
            raise ConfigError(
                f"{here} processes were started on a machine with {torch.cuda.device_count()} CUDA devices: start one "
                "process per device"
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    yield
    dist.destroy_process_group()  # not after an error: other processes may hang in a collective
    time.sleep(_GLOO_GRACE)


def is_distributed() -> bool:
    """Whether there is a process group with more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Index of this process; 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def local_world_size() -> int:
    """Number of processes on this machine, as set by torchrun or srun; 1 without a process group."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_distributed() else 1


def share(x: Tensor) -> Tensor:
    """This process's rows of a joined batch: every world_size-th row, starting at its rank.

    With this order, the k-th micro-batches of all processes together hold the same rows as the k-th micro-batch of a
    single process.
    """
    return x[rank() :: world_size()]


def gather_objects(value: Any) -> list[Any]:
    """Gathers plain values from all processes, in rank order."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Waits for all processes."""
    if is_distributed():
        dist.barrier()
