"""Curves of schedules: functions of the training progress."""

from __future__ import annotations

import math

from ssl_lib.types import Progress

__all__ = ["cosine_schedule", "ramp"]


def cosine_schedule(
    step: int,
    total_steps: int,
    start: float,
    end: float,
    warmup_steps: int = 0,
    warmup_start: float = 0.0,
    *,
    warmup_endpoint: bool = False,
) -> float:
    """Returns the value at `step` of a linear warmup followed by a half-cosine from `start` to `end`.

    Source: `adjust_learning_rate` of barlowtwins/main.py (likewise VICReg, BYOL and MoCo v3): step s of a warmup of W
    steps has completed a fraction s / W of the warmup. With `warmup_endpoint`, `cosine_scheduler` of dino/utils.py
    (likewise SwAV): the fraction is s / (W - 1), so the last warmup step has the full value.

    Args:
        step: 0-based index of the update, in [0, total_steps].
        total_steps: Number of steps of warmup and cosine together, >= 1.
        start: Peak value, reached after the warmup.
        end: Value at `total_steps`, i.e. after the last update.
        warmup_steps: Number of warmup steps, in [0, total_steps).
        warmup_start: Value at step 0 of the warmup.
        warmup_endpoint: Whether the last warmup step already has the value `start`.

    Raises:
        ValueError: A step count is out of range.
    """
    if not 0 <= step <= total_steps or total_steps < 1:
        raise ValueError(f"step must be in [0, total_steps], got step {step} of {total_steps}")
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warmup_steps must be in [0, total_steps), got {warmup_steps} of {total_steps}")
    if step < warmup_steps:
        last = max(1, warmup_steps - 1) if warmup_endpoint else warmup_steps
        return warmup_start + (start - warmup_start) * step / last
    position = (step - warmup_steps) / (total_steps - warmup_steps)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * position))


def ramp(progress: Progress, start: float, end: float, epochs: int) -> float:
    """Returns a value that changes linearly once per epoch, then stays level: DINO's teacher temperature.

    Source: `DINOLoss` of dino/main_dino.py (likewise iBOT and DINOv2).

    Args:
        progress: Of the update.
        start: Value in the first epoch.
        end: Value in epoch `epochs - 1` and all later ones; in all epochs if `epochs` is 0.
        epochs: Length of the ramp.
    """
    if progress.epoch >= epochs:
        return end
    return start + (end - start) * progress.epoch / max(1, epochs - 1)
