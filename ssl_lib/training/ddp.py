"""One method trained by several processes, as if by one on the joined batch."""

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

# Buffers need no broadcast at every forward: the statistics that move them are those of all processes already.
_names = inspect.signature(DistributedDataParallel).parameters
_OPTIONS: dict[str, Any] = {"forward_sync_buffers" if "forward_sync_buffers" in _names else "broadcast_buffers": False}


def parallelize(method: Method, optimizer: Optimizer, precision: Precision) -> nn.Module:
    """What to call in place of the method, so that its gradients are averaged over the processes.

    All processes begin with the weights of the first. The method's batch normalizations are made to share their
    statistics, unless its `sync_batchnorm` is False. In a single process nothing is changed.

    Args:
        method: On its device; its parameters stay the same objects.
        optimizer: Left as it is.
        precision: On CUDA torch's own SyncBatchNorm is taken.

    Raises:
        ConfigError: A batch normalization does more than torch's, and cannot be made to share its statistics.
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
    """The method's forward; without arguments, a scalar that depends on every parameter, with gradients of zero.

    torch sorts its buckets of gradients anew after the first backward, and with a gradient's place in its bucket
    changes the order in which the processes' are added. A first backward that is none makes the first update of a
    resumed run bit for bit the one that it was in the unbroken run.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, *arguments: Any) -> Any:
        if arguments:
            return self.method(*arguments)
        return torch.stack([0 * parameter.sum() for parameter in self.parameters() if parameter.requires_grad]).sum()


def unsynced(model: nn.Module) -> AbstractContextManager[Any]:
    """The context of a forward and backward whose gradients wait for those of a later micro-batch."""
    if isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return _kept_apart(model) if isinstance(model, FSDPModule) else nullcontext()


@contextmanager
def _kept_apart(model: FSDPModule) -> Iterator[None]:
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)
