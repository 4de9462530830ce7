"""Turns DataLoader worker crashes into a DataError that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ssl_lib.errors import DataError

__all__ = ["WORKER_ERRORS", "worker_crash", "worker_crashes"]

WORKER_ERRORS = (RuntimeError, ConnectionResetError, ConnectionRefusedError)
"""Types of the errors that DataLoader raises if a worker was killed."""


@contextmanager
def worker_crashes() -> Iterator[None]:
    """Turns the error of DataLoader about a killed worker into a DataError that says what to do.

    DataLoader can raise this error anywhere in the main process, so wrap the whole run in this context.
    """
    try:
        yield
    except WORKER_ERRORS as error:
        if (crash := worker_crash(error)) is None:
            raise
        raise crash from error


def worker_crash(error: Exception) -> DataError | None:
    """Returns the DataError to raise instead of one of `WORKER_ERRORS`; None if no worker was killed."""
    text = str(error)
    if isinstance(error, OSError):  # the worker was killed while it sent a batch
        text = f"DataLoader worker (pid unknown) closed its connection: {text}"
    if not text.startswith("DataLoader worker (pid"):
        return None
    reason, more = "most likely because the machine ran out of memory", ""
    if "bus error" in text.lower():
        reason = "most likely because the shared memory, /dev/shm, is full"
        more = "increase it (docker run --shm-size=8g), "
    elif "killed by signal" not in text:  # the worker disappeared before the system reported the reason
        reason += " or of shared memory, /dev/shm"
    return DataError(
        f"a process that reads images was killed, {reason}: {more}use fewer processes (trainer.workers) or smaller "
        "images (resize them once with `ssl-lib pack`). Checkpoints are unchanged: train --resume continues from "
        f"the last one; pack and embed continue with the same command ({text.partition('. ')[0]})"
    )
