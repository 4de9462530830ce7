"""Learning rate and weight decay schedules: stateless functions of training progress."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch.optim import Optimizer

from ssl_lib.types import Progress

__all__ = ["Schedule", "cosine_schedule"]


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


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate and weight decay over a run: linear warmup, then cosine decay.

    Attributes:
        epochs: Length of the run in epochs, > 0.
        warmup_epochs: Length of the linear warmup in epochs, in [0, epochs).
        warmup_start: Learning rate at the first warmup update, as a fraction of the peak, in [0, 1].
        warmup_endpoint: Whether the last warmup update has the peak rate (DINO, SwAV); see `cosine_schedule`.
        end: Learning rate after the last update, as a fraction of the peak, in [0, 1]; 0.001 in VICReg, Barlow Twins.
        per_epoch: Whether the learning rate changes once per epoch (SimSiam, MoCo v2) instead of at every update.
        lr_scaling: How the learning rate, given for a batch size of 256, scales with the batch size.
        weight_decay_end: Weight decay after the last update, >= 0, reached by a cosine over the whole run (DINO).
            Groups whose weight decay is 0 keep it. None keeps the weight decay constant.

    Raises:
        ValueError: A value is out of range.
    """

    epochs: int | float = 100
    warmup_epochs: float = 0.0
    warmup_start: float = 0.0
    warmup_endpoint: bool = False
    end: float = 0.0
    per_epoch: bool = False
    lr_scaling: Literal["linear", "sqrt", "none"] = "linear"
    weight_decay_end: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs must be above 0, got {self.epochs}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs must be at least 0 and smaller than epochs ({self.epochs}), got {self.warmup_epochs}: "
                "shorten the warmup with the run"
            )
        for name in ("warmup_start", "end"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a fraction of the peak, in [0, 1]; got {getattr(self, name)}")
        if self.lr_scaling not in ("linear", "sqrt", "none"):
            raise ValueError(f"lr_scaling must be 'linear', 'sqrt' or 'none', got {self.lr_scaling!r}")
        if self.weight_decay_end is not None and not 0 <= self.weight_decay_end < math.inf:
            raise ValueError(f"weight_decay_end must be at least 0 or None, got {self.weight_decay_end}")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Number of optimizer updates in the run, at least 1."""
        return max(1, round(self.epochs * steps_per_epoch))

    def peak_lr(self, lr: float, batch_size: int) -> float:
        """Peak learning rate for a batch size, given the rate `lr` for a batch size of 256.

        Args:
            lr: Learning rate for a batch size of 256, >= 0.
            batch_size: Images per optimizer update, over all processes and accumulated micro-batches.

        Raises:
            ValueError: A value is out of range.
        """
        if not 0 <= lr < math.inf:
            raise ValueError(f"lr must be at least 0, got {lr}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        exponent = {"linear": 1.0, "sqrt": 0.5, "none": 0.0}[self.lr_scaling]
        return float(lr * (batch_size / 256) ** exponent)

    def lr_factor(self, progress: Progress) -> float:
        """Learning rate of this update as a fraction of the peak, in [0, 1]."""
        total = progress.total_steps
        step = progress.epoch * progress.steps_per_epoch if self.per_epoch else progress.step
        # The warmup is a fraction of the run, so that a run shortened by total_steps compresses the whole schedule.
        warmup = min(round(total * self.warmup_epochs / self.epochs), total - 1)
        return cosine_schedule(
            step, total, 1.0, self.end, warmup, self.warmup_start, warmup_endpoint=self.warmup_endpoint
        )

    def prepare(self, optimizer: Optimizer, batch_size: int) -> None:
        """Stores each group's peak learning rate for the batch size as "initial_lr" unless it is already set."""
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", self.peak_lr(group["lr"], batch_size))

    def apply(self, optimizer: Optimizer, progress: Progress) -> float:
        """Sets every group's learning rate and weight decay for this update.

        The initial values are stored in the groups as "initial_lr" (the peak) and "initial_weight_decay", and therefore
        in the optimizer's state dict, so that a resumed run continues on the same schedule. A group's "lr_scale"
        multiplies its rate; "fixed_lr" keeps the group at its peak rate (SimSiam's predictor).

        Returns:
            The learning rate of the first group, ignoring its "lr_scale" and "fixed_lr", for logging.
        """
        factor = self.lr_factor(progress)
        for group in optimizer.param_groups:
            peak = group.setdefault("initial_lr", group["lr"])
            group["lr"] = peak * group.get("lr_scale", 1.0) * (1.0 if group.get("fixed_lr", False) else factor)
            decay = group.setdefault("initial_weight_decay", group["weight_decay"])
            if self.weight_decay_end is not None and decay > 0:
                group["weight_decay"] = cosine_schedule(
                    progress.step, progress.total_steps, decay, self.weight_decay_end
                )
        return float(optimizer.param_groups[0]["initial_lr"] * factor)
