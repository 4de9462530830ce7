"""Checks before training that method, loader, optimizer and schedule fit each other and the processes."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from ssl_lib.data import Loader
from ssl_lib.data.loader import check_divisible
from ssl_lib.distributed import is_distributed
from ssl_lib.errors import CheckpointError
from ssl_lib.memory import check_memories
from ssl_lib.methods.base import Method
from ssl_lib.optim.param_groups import check_optimizer
from ssl_lib.optim.schedules import Schedule
from ssl_lib.runs.files import list_checkpoints
from ssl_lib.utils.launcher import processes_started

__all__ = ["check_batches", "check_method", "check_parts", "check_run_dir"]


def check_parts(
    method: Method, loader: Loader, optimizer: Optimizer, schedule: Schedule | None, *, accumulate: int
) -> None:
    """Refuses arguments of `Trainer.fit` that do not fit each other or the number of processes.

    Raises:
        TypeError: An argument has the wrong type.
        RuntimeError: Several processes were started but have not joined a process group.
        ValueError: The optimizer's parameters are not the method's, the batch cannot be divided, or a queue or bank
            does not fit the number of images.
    """
    check_method(method)
    for value, kind in ((loader, Loader), (schedule, Schedule | None)):
        if not isinstance(value, kind):
            raise TypeError(f"fit(method, loader, optimizer, schedule): expected a {kind}, got {value!r}")
    if processes_started() > 1 and not is_distributed():
        raise RuntimeError(
            f"{processes_started()} processes were started but have not joined a process group, so each would train "
            "its own run: build loader and method, and call fit, inside `with ssl_lib.started():`"
        )
    check_batches(loader, accumulate)
    check_optimizer(optimizer, method)
    check_memories(method, len(loader.data))


def check_batches(loader: Loader, accumulate: int) -> None:
    """Refuses batches that cannot be divided among the processes and micro-batches.

    Raises:
        ValueError: The batch size is not divisible, or the last batch of an epoch may be incomplete.
    """
    check_divisible(loader.batch_size, accumulate)
    if (accumulate > 1 or is_distributed()) and not loader.drop_last:
        raise ValueError("batches that are divided, by accumulate or among processes, must be full: set drop_last=True")


def check_method(method: object) -> None:
    """Checks that an object is a `Method` with a backbone.

    Raises:
        TypeError: The object is not a `Method`, or its `backbone` is not set to a module.
    """
    if not isinstance(method, Method):
        raise TypeError(f"expected a Method, got {type(method).__name__}: subclass ssl_lib.Method")
    if not isinstance(getattr(method, "backbone", None), nn.Module):
        raise TypeError(f"{type(method).__name__} must set self.backbone, the network to train")


def check_run_dir(run_dir: Path | None, resume: bool) -> None:
    """Refuses to overwrite a run, and to resume without a folder, before anything is written.

    Raises:
        ValueError: A run is to be resumed, but there is no folder.
        CheckpointError: The folder holds a run that is not to be resumed.
    """
    if resume and run_dir is None:
        raise ValueError("resume needs a run_dir: Trainer(run_dir=...)")
    if not resume and run_dir is not None and list_checkpoints(run_dir):
        raise CheckpointError(
            f"{run_dir} already holds a run: pass resume=True to continue it, choose another run_dir, or delete its "
            "checkpoints"
        )
