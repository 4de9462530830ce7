"""Data-parallel training (DDP), equivalent to one process that trains on the joined batch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ssl_lib.distributed import is_distributed
from ssl_lib.methods.base import Method
from ssl_lib.training.sync_batchnorm import synchronize
from ssl_lib.utils.precision import Precision

__all__ = ["parallelize", "unsynced"]

# Buffers need no broadcast in the forward pass: they are updated by statistics of all processes.
_names = inspect.signature(DistributedDataParallel).parameters
_OPTIONS: dict[str, Any] = {"forward_sync_buffers" if "forward_sync_buffers" in _names else "broadcast_buffers": False}


def parallelize(method: Method, optimizer: Optimizer, precision: Precision) -> nn.Module:
    """Wraps a method in DistributedDataParallel, which averages its gradients over the processes.

    All processes start with the weights of the first. Batch normalization layers are replaced by synchronized ones,
    unless the method's `sync_batchnorm` is False. In a single process, the method is returned unchanged.

    Args:
        method: The method, on its device; its parameters stay the same objects.
        optimizer: Not changed.
        precision: Its device; on CUDA, torch's SyncBatchNorm is used.

    Returns:
        The module to call instead of the method.

    Raises:
        ConfigError: A batch normalization layer does more than torch's, and cannot be synchronized.
    """
    if not is_distributed():
        return method
    synchronize(method, precision.device)
    for buffer in method.buffers():
        dist.broadcast(buffer, src=0)
    model = DistributedDataParallel(_Model(method), gradient_as_bucket_view=True, **_OPTIONS)
    model().backward()
    model.zero_grad(set_to_none=True)
    return model


class _Model(nn.Module):
    """The method's forward; without arguments, a scalar that depends on every parameter, with zero gradients.

    After the first backward pass, DDP rebuilds its gradient buckets, which changes the order in which the processes'
    gradients are added. A dummy first backward pass makes the first update of a resumed run bit-exact.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, *arguments: Any) -> Any:
        if arguments:
            return self.method(*arguments)
        return torch.stack([0 * parameter.sum() for parameter in self.parameters() if parameter.requires_grad]).sum()


def unsynced(model: nn.Module) -> AbstractContextManager[Any]:
    """Context that leaves the gradients of a micro-batch unsynchronized until a later micro-batch."""
    if isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return _no_fsdp_sync(model) if isinstance(model, FSDPModule) else nullcontext()


@contextmanager
def _no_fsdp_sync(model: FSDPModule) -> Iterator[None]:
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)
