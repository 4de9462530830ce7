"""Gradient clipping per parameter; for the global norm there is `torch.nn.utils.clip_grad_norm_`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_lib.distributed import local
from ssl_lib.optim.grad_norms import by_device, norms

__all__ = ["clip_grad_per_parameter"]


@torch.no_grad()
def clip_grad_per_parameter(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales each parameter's gradient, in place, to a norm of at most `max_norm`.

    Source: `clip_gradients` of dino/utils.py, the factor `min(1, max_norm / (norm + 1e-6))`.

    Args:
        parameters: Those without a gradient are passed over.
        max_norm: Above 0.

    Returns:
        The norm of all gradients together before clipping, a scalar tensor, as `clip_grad_norm_` does.

    Raises:
        ValueError: `max_norm` is not above 0, or a gradient is sparse.
    """
    if not max_norm > 0.0:
        raise ValueError(f"max_norm must be above 0, got {max_norm}; leave the clipping out to switch it off")
    parts = []
    for _, grads in by_device(parameters):
        sizes = norms(grads)
        factors = (max_norm / (sizes + 1e-6)).clamp_max(1.0)
        torch._foreach_mul_([local(grad) for grad in grads], factors.unbind())
        parts.append(torch.linalg.vector_norm(sizes))
    if not parts:
        return torch.zeros(())
    total: Tensor = torch.linalg.vector_norm(torch.stack([part.to(parts[0].device) for part in parts]))
    return total
