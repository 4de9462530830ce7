"""Per-parameter gradient clipping; for the global norm use `torch.nn.utils.clip_grad_norm_`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_lib.distributed import local
from ssl_lib.optim.grad_norms import by_device, norms

__all__ = ["clip_grad_per_parameter"]


@torch.no_grad()
def clip_grad_per_parameter(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Clips the gradient norm of each parameter separately to `max_norm`, in place.

    Source: `clip_gradients` of dino/utils.py. Each gradient is multiplied by `min(1, max_norm / (norm + 1e-6))`.

    Args:
        parameters: Parameters to clip; parameters without a gradient are skipped.
        max_norm: Maximum norm of each gradient, > 0.

    Returns:
        The global norm of all gradients before clipping, a scalar tensor, like `clip_grad_norm_`.

    Raises:
        ValueError: `max_norm` is not positive, or a gradient is sparse.
    """
    if not max_norm > 0.0:
        raise ValueError(f"max_norm must be above 0, got {max_norm}; to disable clipping, do not call this function")
    totals = []
    for _, grads in by_device(parameters):
        grad_norms = norms(grads)
        factors = (max_norm / (grad_norms + 1e-6)).clamp_max(1.0)
        torch._foreach_mul_([local(grad) for grad in grads], factors.unbind())
        totals.append(torch.linalg.vector_norm(grad_norms))
    if not totals:
        return torch.zeros(())
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(totals[0].device) for norm in totals]))
    return total
