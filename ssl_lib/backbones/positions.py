"""Fits a vision transformer's position embeddings to another grid of patches and to other tokens."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["fit_positions", "resize_positions"]


def resize_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Interpolates position embeddings (1, P, D) of a grid of patches to another grid: (1, P', D).

    As in dino/vision_transformer.py, the interpolation is bicubic without antialiasing and 0.1 is added to the new grid
    size, so that DINO checkpoints give the same features at every image size.

    Args:
        positions: (1, P, D), in row-major order, without the positions of class and register tokens.
        old: Height and width of the grid in patches, P = height * width.
        new: Height and width of the new grid.
    """
    maps = positions.transpose(1, 2).reshape(1, -1, *old)
    scale = [(after + 0.1) / before for after, before in zip(new, old, strict=True)]
    maps = F.interpolate(maps.float(), scale_factor=scale, mode="bicubic").to(maps.dtype)
    return maps.flatten(2).transpose(1, 2)


def fit_positions(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Fits the position embeddings of a state dict to a module's, in place; returns what was changed.

    A square grid of another size is interpolated. Positions of class and register tokens that the module does not have
    are added to the tokens, which gives the same network; this is not a change to report.

    Args:
        state: State dict with the module's keys.
        expected: The module's state dict. Nothing is changed if it is not a vision transformer's, or does not fit.
    """
    key = next((key for key in ("pos_embed", "encoder.pos_embedding") if key in state and key in expected), None)
    if key is None or state[key].ndim != 3 or state[key].shape[1] == expected[key].shape[1]:
        return []
    tokens = [name for name in ("cls_token", "class_token", "reg_token") if name in expected]
    if any(name not in state or state[name].shape != expected[name].shape for name in tokens):
        return []
    slots = [(name, index) for name in tokens for index in range(expected[name].shape[1])]
    given, wanted = (_grids(part[key].shape[1], [name for name, _ in slots]) for part in (state, expected))
    pairs = [(count, kept) for count in given for kept in wanted if count >= kept]
    pairs = [(count, kept) for count, kept in pairs if given[count] == wanted[kept]] or pairs
    if len(pairs) != 1:
        return []
    ((count, kept),) = pairs
    positions = state[key]
    for (name, index), value in zip(slots[kept:count], positions[0, kept:count], strict=True):
        state[name] = state[name].clone()
        state[name][0, index] += value
    old, new, patches = given[count], wanted[kept], positions[:, count:]
    if old != new:
        patches = resize_positions(patches, (old, old), (new, new))
    state[key] = torch.cat((positions[:, :kept], patches), dim=1)
    return [] if old == new else [f"{key} is interpolated from {old} x {old} to {new} x {new} patches"]


def _grids(positions: int, tokens: list[str]) -> dict[int, int]:
    """The side of a square grid of patches, by the number of leading tokens that have a position of their own.

    A kind of token, such as the registers, has positions for all its tokens or for none.
    """
    counts = itertools.accumulate((len(list(group)) for _, group in itertools.groupby(tokens)), initial=0)
    sides = {count: math.isqrt(max(0, positions - count)) for count in counts}
    return {count: side for count, side in sides.items() if side and side**2 == positions - count}
