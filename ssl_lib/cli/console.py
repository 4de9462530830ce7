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
from ssl_lib.utils.printable import visible
from ssl_lib.utils.streams import write_to_stderr

__all__ = [
    "ctrl_c_ends",
    "end_quietly_on_ctrl_c",
    "print_error",
    "print_interrupted",
    "prints_for_all",
    "same_in_all_processes",
]

_INTERRUPTED = "\nssl-lib: interrupted\n"
_PATIENCE = timedelta(seconds=3)


def print_error(error: Exception) -> None:
    """Prints an error: once if all processes have the same one, else with the process number."""
    text = visible(str(error))
    if not same_in_all_processes(text):
        print(f"ssl-lib: error in process {_group().get_rank()}: {text}", file=sys.stderr)
        return
    if prints_for_all():
        print(f"ssl-lib: error: {text}", file=sys.stderr, flush=True)
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
    changed = _exit_on_ctrl_c(_INTERRUPTED if prints_for_all() else "")
    try:
        yield
    finally:
        if changed:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def end_quietly_on_ctrl_c() -> None:
    """Lets Ctrl-C end the process immediately and without a message, when no work is left.

    Python would print tracebacks of the functions that clean up.
    """
    _exit_on_ctrl_c("")


def _exit_on_ctrl_c(text: str) -> bool:
    """Replaces Python's own handler of SIGINT, and returns whether it did: the signal may be ignored."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False

    def end(number: int, frame: FrameType | None) -> None:
        write_to_stderr(text)
        os._exit(128 + number)

    signal.signal(signal.SIGINT, end)
    return True


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
