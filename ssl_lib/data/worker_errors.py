"""Turns DataLoader worker crashes into a DataError that says what to do."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_lib.errors import DataError

__all__ = ["WORKER_ERRORS", "check_main_guard", "worker_crash", "worker_crashes"]

WORKER_ERRORS = (RuntimeError, ConnectionResetError, ConnectionRefusedError)
"""Types of the errors that DataLoader raises if a worker was killed."""

_GUARD = 'put the code that starts it under `if __name__ == "__main__":`, or set workers=0'


def check_main_guard() -> None:
    """Checks that worker processes can import the script that starts them, without running it again.

    Raises:
        DataError: Workers are not forked, and the script has no main guard.
    """
    main = sys.modules.get("__main__")
    script, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if script is None or _start_method() == "fork":
        return
    if spec is not None and spec.name.rpartition(".")[2] == "__main__":  # `python -m package`: it is not imported
        return
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if not re.search("__(mp_)?main__", Path(script).read_text(encoding="utf-8")):
            raise DataError(
                f"{script} has no main guard: with the start method {_start_method()!r}, every process that reads "
                f"images imports the script and would run it again; {_GUARD}"
            )


def _start_method() -> str:
    return multiprocessing.get_start_method()


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
        if _start_method() != "fork":
            more = f"if the script has no main guard, {_GUARD}; otherwise "
    return DataError(
        f"a process that reads images was killed, {reason}: {more}use fewer processes (trainer.workers) or smaller "
        "images (resize them once with `ssl-lib pack`). Checkpoints are unchanged: train --resume continues from "
        f"the last one; pack and embed continue with the same command ({text.partition('. ')[0]})"
    )
