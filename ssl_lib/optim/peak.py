"""The peak learning rate of a run: scaled by the batch size, and stored in the optimizer's parameter groups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from torch.optim import Optimizer

__all__ = ["SCALINGS", "LRScaling", "describe_peak", "given_value", "peak_lr", "set_values"]

LRScaling: TypeAlias = Literal["linear", "sqrt", "none"]
"""How the learning rate for a batch size of 256 scales with the batch size."""

SCALINGS: Mapping[str, tuple[float, str]] = {
    "linear": (1.0, "{peak} = {lr:.6g} x {batch_size} / 256"),
    "sqrt": (0.5, "{peak} = {lr:.6g} x sqrt({batch_size} / 256)"),
    "none": (0.0, "{peak}, not scaled by the batch size"),
}
"""The exponent of `batch_size / 256`, and the text that describes the peak."""


def peak_lr(lr: float, batch_size: int, scaling: LRScaling) -> float:
    """Peak learning rate for a batch size, given the rate `lr` for a batch size of 256.

    Raises:
        ValueError: A value is out of range.
    """
    if not 0 <= lr < math.inf:
        raise ValueError(f"lr must be at least 0, got {lr}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    exponent, _ = SCALINGS[scaling]
    return float(lr * (batch_size / 256) ** exponent)


def describe_peak(optimizer: Optimizer, batch_size: int, scaling: LRScaling) -> str:
    """Describes the peak learning rate of each parameter group, once: `0.075 = 0.3 x 64 / 256`."""
    _, formula = SCALINGS[scaling]
    texts = []
    for group in optimizer.param_groups:
        peak = f"{group['initial_lr']:.6g}"
        known = "base_lr" in group  # it is not in checkpoints of earlier versions
        texts.append(formula.format(peak=peak, lr=group["base_lr"], batch_size=batch_size) if known else peak)
    return ", ".join(dict.fromkeys(texts))


def given_value(group: Mapping[str, Any], name: str, *stored: str) -> float:
    """A group's value before any schedule: a stored one, unless the value was changed since a schedule set it.

    Args:
        group: Parameter group of an optimizer.
        name: Key of the value, such as `lr`.
        *stored: Keys of the group that may hold the value, the first one found is used.
    """
    if group[name] != group.get(f"scheduled_{name}", group[name]):
        return float(group[name])
    return float(next(group[key] for key in (*stored, name) if key in group))


def set_values(group: dict[str, Any], **values: float) -> None:
    """Sets values of a group for one update, and stores them, so that `given_value` recognizes later changes."""
    group.update(values)
    group.update((f"scheduled_{name}", value) for name, value in values.items())
