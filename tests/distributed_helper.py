"""Runs a function in several processes of a gloo process group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

import tests.fork_server  # noqa: F401  (the fork server preloads its imports)

Result = dict[str, torch.Tensor]


def run_processes(
    function: Callable[..., Result], world_sizes: Sequence[int], folder: Path, *args: Any
) -> dict[int, list[Result]]:
    """Calls `function(*args)` in every process of a group of each size; returns the results by world size and rank.

    The processes are started once, for the largest group, by a fork server that has imported torch. The function must
    be importable, and its result a dict of tensors. An exception in a process is raised here, with its traceback.
    """
    arguments = (function, tuple(world_sizes), folder, args)
    torch.multiprocessing.start_processes(_run, arguments, nprocs=max(world_sizes), start_method="forkserver")
    return {
        size: [torch.load(folder / f"{size}-{rank}.pt", weights_only=True) for rank in range(size)]
        for size in world_sizes
    }


def _run(
    rank: int, function: Callable[..., Result], world_sizes: tuple[int, ...], folder: Path, args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    for size in world_sizes:
        if rank < size:
            dist.init_process_group(
                "gloo",
                init_method=f"file://{folder}/rendezvous-{size}",
                rank=rank,
                world_size=size,
                timeout=timedelta(seconds=120),
            )
            torch.save(function(*args), folder / f"{size}-{rank}.pt")
            dist.destroy_process_group()
