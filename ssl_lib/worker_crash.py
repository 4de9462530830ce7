"""What is said of a worker process that was killed, wherever DataLoader tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ssl_lib.errors import DataError

__all__ = ["worker_crashes"]


@contextmanager
def worker_crashes() -> Iterator[None]:
    """Turns DataLoader's RuntimeError about a worker that was killed into a DataError that says what to do.

    DataLoader raises it wherever the main process happens to be, so that a whole run is put into this context.
    """
    try:
        yield
    except (RuntimeError, ConnectionResetError, ConnectionRefusedError) as error:
        text = str(error)
        if isinstance(error, OSError):  # it was killed while it handed a batch over
            text = f"DataLoader worker (pid unknown) hung up: {text}"
        if not text.startswith("DataLoader worker (pid"):
            raise
        reason, more = "the machine most likely ran out of memory", ""
        if "bus error" in text.lower():
            reason = "the shared memory, /dev/shm, is most likely full"
            more = "give it more (docker run --shm-size=8g), "
        elif "killed by signal" not in text:  # it was seen to be gone before the system told how it ended
            reason += ", or of shared memory, /dev/shm"
        raise DataError(
            f"a process that reads images was killed, {reason}: {more}use fewer processes (trainer.workers) or smaller "
            "images (resized once by `ssl-lib pack`). What was saved before is left as it was: training goes on from "
            f"its last checkpoint with --resume, pack and embed with the same command ({text.partition('. ')[0]})"
        ) from error
