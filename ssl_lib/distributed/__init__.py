"""Distributed training: the process group, differentiable collectives, and stop signals."""

from __future__ import annotations

from ssl_lib.distributed.collectives import (
    all_reduce_sum,
    average,
    batch_center,
    batch_moments,
    batch_normalize,
    gather,
    gather_uneven,
    in_any,
    joined,
    local,
    set_unsharded,
    unsharded,
)
from ssl_lib.distributed.process_group import (
    barrier,
    gather_objects,
    is_distributed,
    local_world_size,
    rank,
    share,
    started,
    world_size,
)
from ssl_lib.distributed.signals import stop_on_signals

__all__ = [
    "all_reduce_sum",
    "average",
    "barrier",
    "batch_center",
    "batch_moments",
    "batch_normalize",
    "gather",
    "gather_objects",
    "gather_uneven",
    "in_any",
    "is_distributed",
    "joined",
    "local",
    "local_world_size",
    "rank",
    "set_unsharded",
    "share",
    "started",
    "stop_on_signals",
    "unsharded",
    "world_size",
]
