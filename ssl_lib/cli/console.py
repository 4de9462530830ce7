"""What several processes say on one terminal: each thing once. Free of torch, as errors may come before it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

from ssl_lib.utils.launcher import processes_started

__all__ = ["ctrl_c_ends", "print_error", "print_interrupted", "said_by_all", "speaks"]

_INTERRUPTED = "\nssl-lib: interrupted\n"
_PATIENCE = timedelta(seconds=3)


def print_error(error: Exception) -> None:
    """Prints an error: once where all processes have the same, and else with the number of the process."""
    if not said_by_all(str(error)):
        print(f"ssl-lib: error in process {_group().get_rank()}: {error}", file=sys.stderr)
        return
    if speaks():
        print(f"ssl-lib: error: {error}", file=sys.stderr, flush=True)
    said_by_all("printed")  # the end of one process ends the others


def speaks() -> bool:
    """Whether what all processes would say is for this one to say; before they have joined, once on each machine."""
    if group := _group():
        return bool(group.get_rank() == 0)
    return processes_started() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"


def print_interrupted() -> None:
    """Prints that Ctrl-C ended the command."""
    if speaks():
        print(_INTERRUPTED, file=sys.stderr, end="", flush=True)


@contextmanager
def ctrl_c_ends() -> Iterator[None]:
    """Lets Ctrl-C end the process at once, where nothing is lost: a KeyboardInterrupt may break torch's import."""
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # it may be ignored
        yield
        return
    text = _INTERRUPTED.encode() if speaks() else b""

    def end(number: int, frame: FrameType | None) -> None:
        os.write(2, text)
        os._exit(128 + number)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def said_by_all(text: str) -> bool:
    """Whether all processes say the same, such as an error's message; no collective, in which others may hang.

    Args:
        text: A text that this process has not asked about before.
    """
    group = _group()
    if group is None:
        return True
    store = group.distributed_c10d._get_default_store()
    says = [f"ssl_lib: process {index} says {text}" for index in range(group.get_world_size())]
    try:
        store.set(says[group.get_rank()], "")
        store.wait(says, _PATIENCE)
    except (RuntimeError, OSError):  # it took too long, or the process that holds the store is gone
        return False
    return True


def _group() -> Any:
    """`torch.distributed`, where several processes have joined; nothing has joined where torch was not imported."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 else None
