"""What the optimizer and the clipping share: gradients listed by device, and all their norms at once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_lib.distributed import all_reduce_sum, local

__all__ = ["by_device", "norms"]


def by_device(parameters: Iterable[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Pairs the parameters that have a gradient with it, in two parallel lists per device.

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
                "give the layer dense gradients (nn.Embedding(sparse=False))"
            )
        params, grads = lists.setdefault(parameter.device, ([], []))
        params.append(parameter)
        grads.append(parameter.grad)
    return list(lists.values())


def norms(tensors: list[Tensor]) -> Tensor:
    """The Euclidean norm of each of T tensors of one device, as a tensor (T,), without waiting for the device.

    Of tensors that are sharded over the processes it is that of the whole.
    """
    parts = [local(tensor) for tensor in tensors]
    on_cpu = parts[0].device.type == "cpu"
    sizes = torch.stack([_norm(part) for part in parts] if on_cpu else torch._foreach_norm(parts))
    return sizes if parts[0] is tensors[0] else all_reduce_sum(sizes.square()).sqrt()


def _norm(tensor: Tensor) -> Tensor:
    # Row by row: torch's full reduction runs on one CPU thread and loses four digits over a million float32 values.
    if tensor.ndim > 1:
        tensor = torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)))
    norm: Tensor = torch.linalg.vector_norm(tensor)
    return norm
