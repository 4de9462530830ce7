"""What several processes say on one terminal: each thing once."""

from __future__ import annotations

import os
import sys
from datetime import timedelta

import torch.distributed as dist

from ssl_lib.distributed import is_distributed, processes_started, rank, world_size

__all__ = ["print_error", "said_by_all", "speaks"]


def print_error(error: Exception) -> None:
    """Prints an error: once where all processes have the same, and else with the number of the process."""
    if not said_by_all(str(error)):
        print(f"ssl-lib: error in process {rank()}: {error}", file=sys.stderr)
        return
    if speaks():
        print(f"ssl-lib: error: {error}", file=sys.stderr, flush=True)
    said_by_all("printed")  # the end of one process ends the others


def speaks() -> bool:
    """Whether what all processes would say is for this one to say; before they have joined, once on each machine."""
    return rank() == 0 if is_distributed() else processes_started() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"


def said_by_all(text: str, seconds: float = 3.0) -> bool:
    """Whether all processes say the same, such as an error's message; no collective, in which others may hang.

    Args:
        text: A text that this process has not asked about before.
        seconds: How long to wait for the others.
    """
    if not is_distributed():
        return True
    store = dist.distributed_c10d._get_default_store()
    says = [f"ssl_lib: process {index} says {text}" for index in range(world_size())]
    try:
        store.set(says[rank()], "")
        store.wait(says, timedelta(seconds=seconds))
    except (RuntimeError, OSError):  # it took too long, or the process that holds the store is gone
        return False
    return True
