"""Gradients grouped by device and their norms, computed together; used by LARS and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_lib.distributed import all_reduce_sum, local

__all__ = ["by_device", "norms"]


def by_device(parameters: Iterable[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Groups parameters that have a gradient by device, as parallel lists of parameters and gradients.

    Raises:
        ValueError: A gradient is sparse.
    """
    lists: dict[torch.device, tuple[list[Tensor], list[Tensor]]] = {}
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            raise ValueError(
                f"the gradient of a parameter of shape {tuple(parameter.shape)} is sparse; "
                "use a layer with dense gradients, such as nn.Embedding(sparse=False)"
            )
        params, grads = lists.setdefault(parameter.device, ([], []))
        params.append(parameter)
        grads.append(parameter.grad)
    return list(lists.values())


def norms(tensors: list[Tensor]) -> Tensor:
    """Returns the Euclidean norms (T,) of T tensors on one device, without a device sync.

    For tensors sharded over processes, the norm of the full tensor is returned.
    """
    shards = [local(tensor) for tensor in tensors]
    on_cpu = shards[0].device.type == "cpu"
    local_norms = torch.stack([_norm(shard) for shard in shards] if on_cpu else torch._foreach_norm(shards))
    return local_norms if shards[0] is tensors[0] else all_reduce_sum(local_norms.square()).sqrt()


def _norm(tensor: Tensor) -> Tensor:
    # Row by row: torch's full CPU reduction is single-threaded and loses four digits over a million float32 values.
    if tensor.ndim > 1:
        tensor = torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)))
    norm: Tensor = torch.linalg.vector_norm(tensor)
    return norm
