"""What the losses share: checks of arguments, precision, unit vectors."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ssl_lib.distributed import world_size


def check_positive(name: str, value: float) -> None:
    """Refuses what is not a finite number above 0."""
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_weight(name: str, value: float) -> None:
    """Refuses what is not a finite number of at least 0."""
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value}")


def check_matrix(name: str, x: Tensor) -> None:
    """Refuses what is not a matrix of floats."""
    if x.ndim != 2 or not x.is_floating_point() or not x.shape[1]:
        raise ValueError(f"{name} must be a float tensor of shape (N, D), got {x.dtype} of shape {tuple(x.shape)}")


def check_pair(a: Tensor, b: Tensor, names: tuple[str, str] = ("z_a", "z_b"), min_batch: int = 2) -> None:
    """Refuses two views that are not matrices of one shape, or too few rows over all processes."""
    check_matrix(names[0], a)
    check_matrix(names[1], b)
    if a.shape != b.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must have one shape, row i of both from image i; "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if len(a) * world_size() < min_batch:
        raise ValueError(f"the batch must hold at least {min_batch} images, got {names[0]} of shape {tuple(a.shape)}")


def without_autocast(x: Tensor) -> torch.autocast:
    """The context in which operations on x's device keep the precision of their inputs."""
    return torch.autocast(x.device.type, enabled=False)


def upcast(*tensors: Tensor) -> list[Tensor]:
    """Brings tensors to their widest type, at least float32."""
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in tensors), torch.float32)
    return [x.to(dtype) for x in tensors]


def unit_rows(x: Tensor) -> Tensor:
    """Scales each row to length 1; a row of zeros, which has no direction, stays zero and gets no gradient."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.masked_fill(norm < 1e-12, math.inf)
