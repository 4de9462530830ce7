"""Random directions on which embeddings are projected, and the checks that such losses share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_lib.losses._common import upcast
from ssl_lib.utils.rows import unit_rows

__all__ = ["check_views", "random_directions", "seeded_directions", "slices"]


def random_directions(uniform: Tensor) -> Tensor:
    """Turns uniform random numbers into directions that are spread evenly over the sphere.

    Args:
        uniform: Numbers (2, D, K) in [0, 1), such as those of `BatchRandom.shared`.

    Returns:
        (D, K), columns of unit length.
    """
    radius, angle = (-2 * (1 - uniform[0]).log()).sqrt(), 2 * math.pi * uniform[1]  # Box and Muller: normal numbers
    return unit_rows((radius * angle.cos()).T).T


def seeded_directions(count: int, dim: int, seed: int, like: Tensor) -> Tensor:
    """Draws K directions of D numbers from a seed, on the CPU: (D, K), of the type and device of `like`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(dim, count, dtype=like.dtype, generator=generator).to(like.device)


def slices(z: Tensor, directions: Tensor) -> Tensor:
    """Projects embeddings (..., N, D) on directions (D, K), scaled to unit length: (..., N, K)."""
    if directions.ndim != 2 or len(directions) != z.shape[-1]:
        raise ValueError(f"directions must be ({z.shape[-1]}, K), one per column, got {tuple(directions.shape)}")
    return z @ unit_rows(directions.to(z).T).T


def check_views(name: str, z: Tensor, min_rows: int = 1) -> Tensor:
    """Returns embeddings in at least float32.

    Raises:
        ValueError: They are not floats (..., N, D), or have fewer rows than `min_rows`.
    """
    if z.ndim < 2 or not z.is_floating_point() or not z.numel() or z.shape[-2] < min_rows:
        raise ValueError(
            f"{name} must be a float tensor (..., N, D) with N at least {min_rows}, got {z.dtype} of shape "
            f"{tuple(z.shape)}"
        )
    return upcast(z)[0]
