"""Unit-length rows and row norms of embeddings, correct at any scale: no square overflows or underflows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["row_norms", "unit_rows"]


def unit_rows(x: Tensor) -> Tensor:
    """Normalizes each row to unit length: x / ||x||, with its gradient, whatever the scale of the row.

    Args:
        x: Floats (..., D).

    Returns:
        (..., D). A row of zeros stays zero and gets no gradient. The same holds for a row whose norm is below the
        smallest normal number (1.2e-38 in float32), because its gradient would be infinite. A row with NaN or infinity
        contains NaN.
    """
    scaled, factors = _scaled(x)
    norms: Tensor = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / norms.masked_fill(norms < torch.finfo(norms.dtype).tiny * factors, math.inf)


@torch.no_grad()
def row_norms(x: Tensor) -> Tensor:
    """Computes the Euclidean norm of each row, (..., D) -> (...), whatever the scale of the row."""
    scaled, factors = _scaled(x)
    norms: Tensor = torch.linalg.vector_norm(scaled, dim=-1)
    return norms / factors.squeeze(-1)


def _scaled(x: Tensor) -> tuple[Tensor, Tensor]:
    """Multiplies rows (..., D) whose squares could overflow or underflow by a power of two, and all others by 1.

    Returns:
        The rows (..., D) and their factors (..., 1).
    """
    norms: Tensor = torch.linalg.vector_norm(x.detach(), dim=-1, keepdim=True)
    numbers = torch.finfo(norms.dtype)
    low, high = (math.log2(value) for value in (numbers.tiny / numbers.eps, numbers.max * numbers.eps))
    factors = torch.where(norms < 2.0 ** (low / 2), 2.0 ** -round(low), torch.ones_like(norms))
    factors = torch.where(norms > 2.0 ** (high / 2), 2.0 ** -round(high), factors)
    return x * factors, factors
