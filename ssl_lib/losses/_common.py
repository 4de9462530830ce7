"""Helpers shared by the losses: argument checks and precision."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_lib.distributed import world_size
from ssl_lib.utils.rows import float_type


def check_positive(name: str, value: float) -> None:
    """Raises ValueError unless the value is positive and finite."""
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_weight(name: str, value: float) -> None:
    """Raises ValueError unless the value is non-negative and finite."""
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value}")


def check_pair(a: Tensor, b: Tensor, names: tuple[str, str] = ("z_a", "z_b"), min_batch: int = 2) -> None:
    """Raises ValueError unless both are float matrices of the same shape, with at least `min_batch` rows in total."""
    for name, x in zip(names, (a, b), strict=True):
        if x.ndim != 2 or not x.is_floating_point() or not x.shape[1]:
            raise ValueError(f"{name} must be a float tensor of shape (N, D), got {x.dtype} of shape {tuple(x.shape)}")
    if a.shape != b.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same shape, with row i of both from image i; "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if len(a) * world_size() < min_batch:
        raise ValueError(
            f"the batch must contain at least {min_batch} images, got {names[0]} of shape {tuple(a.shape)}"
        )


def without_autocast(x: Tensor) -> torch.autocast:
    """Returns a context manager that disables autocast on the device of `x`."""
    return torch.autocast(x.device.type, enabled=False)


def upcast(*tensors: Tensor) -> list[Tensor]:
    """Casts tensors to their common dtype, at least float32."""
    dtype = float_type(*tensors)
    return [x.to(dtype) for x in tensors]
