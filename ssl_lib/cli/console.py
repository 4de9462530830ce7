"""Prints each message of several processes once; imports no torch."""

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

__all__ = ["ctrl_c_ends", "print_error", "print_interrupted", "prints_for_all", "same_in_all_processes"]

_INTERRUPTED = "\nssl-lib: interrupted\n"
_PATIENCE = timedelta(seconds=3)


def print_error(error: Exception) -> None:
    """Prints an error: once if all processes have the same one, else with the process number."""
    if not same_in_all_processes(str(error)):
        print(f"ssl-lib: error in process {_group().get_rank()}: {error}", file=sys.stderr)
        return
    if prints_for_all():
        print(f"ssl-lib: error: {error}", file=sys.stderr, flush=True)
    same_in_all_processes("printed")  # wait: the end of one process ends the others


def prints_for_all() -> bool:
    """Whether this process prints for all; before the processes have joined, the first one of each machine."""
    if group := _group():
        return bool(group.get_rank() == 0)
    return processes_started() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"


def print_interrupted() -> None:
    """Prints that Ctrl-C ended the command."""
    if prints_for_all():
        print(_INTERRUPTED, file=sys.stderr, end="", flush=True)


@contextmanager
def ctrl_c_ends() -> Iterator[None]:
    """Lets Ctrl-C end the process immediately: a KeyboardInterrupt could break torch's import."""
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # it may be ignored
        yield
        return
    text = _INTERRUPTED.encode() if prints_for_all() else b""

    def end(number: int, frame: FrameType | None) -> None:
        os.write(2, text)
        os._exit(128 + number)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def same_in_all_processes(text: str) -> bool:
    """Whether all processes have the same text, such as an error's message; not a collective, which could hang.

    Args:
        text: A text that this process has not compared before.
    """
    group = _group()
    if group is None:
        return True
    store = group.distributed_c10d._get_default_store()
    entries = [f"ssl_lib: process {index} has {text}" for index in range(group.get_world_size())]
    try:
        store.set(entries[group.get_rank()], "")
        store.wait(entries, _PATIENCE)
    except (RuntimeError, OSError):  # a timeout, or the process that holds the store has ended
        return False
    return True


def _group() -> Any:
    """`torch.distributed` if several processes have joined, else None; without torch imported, none have."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 else None
