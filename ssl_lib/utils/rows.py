"""Rows of embeddings: unit length and norms at any scale without overflow, precision, finite values, and chunks."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

__all__ = ["check_finite", "float_type", "part_rows", "row_norms", "unit_rows"]

_VALUES = 2**24  # values per chunk, so that large banks need little additional memory


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


def float_type(*tensors: Tensor) -> torch.dtype:
    """Returns the common type in which to compute with tensors, at least float32."""
    return functools.reduce(torch.promote_types, (x.dtype for x in tensors), torch.float32)


def check_finite(name: str, x: Tensor) -> None:
    """Raises ValueError, with the first row, if a value of x (N, ...) is NaN or infinite."""
    for start in range(0, len(x), rows := max(1, _VALUES // max(1, x[:1].numel()))):
        bad = ~x[start : start + rows].isfinite().flatten(1).all(1)
        if bad.any():
            first = start + int(bad.nonzero()[0])
            raise ValueError(
                f"row {first} of the {name} is NaN or infinite: metrics need finite values; check the network that "
                "computed the row and its input"
            )


def part_rows(features: Tensor, width: int = 1) -> int:
    """Number of rows of features (N, D) to process at once if each row needs `width` additional values."""
    return max(1, _VALUES // max(width, features.shape[1]))


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
