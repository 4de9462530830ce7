"""Checks before training that method, loader, optimizer and schedule fit each other and the processes."""

from __future__ import annotations

from torch.optim import Optimizer

from ssl_lib.data import Loader
from ssl_lib.data.loader import check_divisible
from ssl_lib.distributed import is_distributed
from ssl_lib.methods.base import Method, check_method
from ssl_lib.optim.param_groups import check_optimizer
from ssl_lib.optim.schedules import Schedule
from ssl_lib.utils.launcher import processes_started

__all__ = ["check_batches", "check_parts"]


def check_parts(
    method: Method, loader: Loader, optimizer: Optimizer, schedule: Schedule | None, *, accumulate: int
) -> None:
    """Refuses arguments of `Trainer.fit` that do not fit each other or the number of processes.

    Raises:
        TypeError: An argument has the wrong type.
        RuntimeError: Several processes were started but have not joined a process group.
        ValueError: The optimizer's parameters are not the method's, or the batch cannot be divided.
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


def check_batches(loader: Loader, accumulate: int) -> None:
    """Refuses batches that cannot be divided among the processes and micro-batches.

    Raises:
        ValueError: The batch size is not divisible, or the last batch of an epoch may be incomplete.
    """
    check_divisible(loader.batch_size, accumulate)
    if (accumulate > 1 or is_distributed()) and not loader.drop_last:
        raise ValueError("batches that are divided, by accumulate or among processes, must be full: set drop_last=True")
