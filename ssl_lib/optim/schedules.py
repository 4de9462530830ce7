"""Learning rate and weight decay schedules: stateless functions of training progress."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch.optim import Optimizer

from ssl_lib.optim.curves import cosine_schedule
from ssl_lib.optim.peak import SCALINGS, LRScaling, describe_peak, given_value, peak_lr, set_values
from ssl_lib.types import Progress

__all__ = ["Schedule"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate and weight decay over a run: linear warmup, then cosine decay.

    A finished run can be made longer (see `resumed`): each restart begins another cosine. All other schedules end
    where the run ended first.

    Attributes:
        epochs: Length of the run in epochs, > 0.
        warmup_epochs: Length of the linear warmup in epochs, in [0, epochs).
        warmup_start: Learning rate at the first warmup update, as a fraction of the peak, in [0, 1].
        warmup_endpoint: Whether the last warmup update has the peak rate (DINO, SwAV); see `cosine_schedule`.
        end: Learning rate after the last update, as a fraction of the peak, in [0, 1]; 0.001 in VICReg, Barlow Twins.
        per_epoch: Whether the learning rate changes once per epoch (SimSiam, MoCo v2) instead of at every update.
        lr_scaling: How the learning rate, given for a batch size of 256, scales with the batch size. None takes the
            `lr_scaling` of the method or else of the optimizer, or "linear" if they have none; see `scaled_for`.
        weight_decay_end: Weight decay after the last update, >= 0, reached by a cosine over the whole run (DINO).
            Groups whose weight decay is 0 keep it. None keeps the weight decay constant.
        stretch: The cosines are computed for a run this many times as long, >= 1, and cut off at its end (1.25 in
            MSN, I-JEPA).
        restart_lr: Learning rate at which a finished run continues if it is made longer, as a fraction of the peak, in
            [0, 1]. From there it decays to `end` by a cosine.
        restarts: Restarts of a run that was made longer: pairs of the epoch, in increasing order between
            `warmup_epochs` and `epochs`, and the learning rate there, as a fraction of the peak.

    Raises:
        ValueError: A value is out of range.
    """

    epochs: int | float = 100
    warmup_epochs: float = 0.0
    warmup_start: float = 0.0
    warmup_endpoint: bool = False
    end: float = 0.0
    per_epoch: bool = False
    lr_scaling: LRScaling | None = None
    weight_decay_end: float | None = None
    stretch: float = 1.0
    restart_lr: float = 0.5
    restarts: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs must be above 0, got {self.epochs}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs must be at least 0 and smaller than epochs ({self.epochs}), got {self.warmup_epochs}: "
                "shorten the warmup with the run"
            )
        for name in ("warmup_start", "end", "restart_lr"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a fraction of the peak, in [0, 1]; got {getattr(self, name)}")
        if self.lr_scaling is not None and self.lr_scaling not in SCALINGS:
            raise ValueError(f"lr_scaling must be 'linear', 'sqrt' or 'none', got {self.lr_scaling!r}")
        if self.weight_decay_end is not None and not 0 <= self.weight_decay_end < math.inf:
            raise ValueError(f"weight_decay_end must be at least 0 or None, got {self.weight_decay_end}")
        if not 1 <= self.stretch < math.inf:
            raise ValueError(f"stretch must be at least 1, got {self.stretch}")
        restarts = tuple((float(epoch), float(lr)) for epoch, lr in self.restarts)
        object.__setattr__(self, "restarts", restarts)
        rising = all(a < b for a, b in itertools.pairwise((self.warmup_epochs, *self._ends)))
        if restarts and not (rising and all(0 <= lr <= 1 for _, lr in restarts)):
            raise ValueError(
                f"restarts must be pairs of an epoch, in increasing order above warmup_epochs ({self.warmup_epochs}) "
                f"and below epochs ({self.epochs}), and a fraction of the peak, in [0, 1]; got {restarts}"
            )

    def total_steps(self, steps_per_epoch: int) -> int:
        """Number of optimizer updates in the run, at least 1."""
        return _steps(self.epochs, steps_per_epoch)

    def restart_steps(self, steps_per_epoch: int) -> list[int]:
        """Number of optimizer updates before each restart."""
        return [_steps(epoch, steps_per_epoch) for epoch, _ in self.restarts]

    def scaled_for(self, *parts: object) -> Schedule:
        """This schedule with the `lr_scaling` of the first part that declares one, unless the schedule has its own.

        Without any it is "linear", as in the references for SGD and LARS (Goyal et al. 2017, arXiv:1706.02677; SimCLR,
        BYOL, Barlow Twins, VICReg, SimSiam) and for AdamW (DINO, MAE, MoCo v3).

        Args:
            *parts: A method and an optimizer, or their classes.

        Raises:
            ValueError: A part declares an unknown scaling.
        """
        declared = [value for part in parts if (value := getattr(part, "lr_scaling", None)) is not None]
        return dataclasses.replace(self, lr_scaling=self.lr_scaling or (declared[0] if declared else "linear"))

    def peak_lr(self, lr: float, batch_size: int) -> float:
        """Peak learning rate for a batch size, given the rate `lr` for a batch size of 256.

        Args:
            lr: Learning rate for a batch size of 256, >= 0.
            batch_size: Images per optimizer update, over all processes and accumulated micro-batches.

        Raises:
            ValueError: A value is out of range.
        """
        return peak_lr(lr, batch_size, self.lr_scaling or "linear")

    def describe_peak(self, optimizer: Optimizer, batch_size: int) -> str:
        """Describes the peak learning rate and its computation: `peak learning rate 0.075 = 0.3 x 64 / 256`.

        Args:
            optimizer: An optimizer after `prepare`. If its groups have several rates, all are described.
            batch_size: Images per optimizer update.
        """
        return f"peak learning rate {describe_peak(optimizer, batch_size, self.lr_scaling or 'linear')}"

    def lr_factor(self, progress: Progress) -> float:
        """Learning rate of this update as a fraction of the peak, in [0, 1]."""
        step = progress.epoch * progress.steps_per_epoch if self.per_epoch else progress.step
        starts = self.restart_steps(progress.steps_per_epoch)
        if number := sum(start <= progress.step for start in starts):  # restarts so far
            start, end = starts[number - 1], [*starts, progress.total_steps][number]
            _, lr = self.restarts[number - 1]
            return cosine_schedule(max(step, start) - start, max(1, end - start), lr, self.end)
        total = starts[0] if starts else progress.total_steps
        # The warmup is a fraction of the run, so that a run shortened by total_steps compresses the whole schedule.
        warmup = min(round(total * self.warmup_epochs / self._ends[0]), total - 1)
        total = round(self.stretch * total)
        return cosine_schedule(
            step, total, 1.0, self.end, warmup, self.warmup_start, warmup_endpoint=self.warmup_endpoint
        )

    def prepare(self, optimizer: Optimizer, batch_size: int) -> None:
        """Stores each group's peak learning rate for the batch size as "initial_lr".

        The peak is computed from the learning rate that the group had before any schedule: the one that an earlier call
        has stored as "base_lr", unless "lr" was set to another value since; or the "initial_lr" of a torch scheduler.
        The weight decay starts at its value before any schedule, too.
        """
        for group in optimizer.param_groups:
            lr = given_value(group, "lr", "base_lr", "initial_lr")
            decay = given_value(group, "weight_decay", "initial_weight_decay")
            group.update(base_lr=lr, initial_lr=self.peak_lr(lr, batch_size), initial_weight_decay=decay)
            set_values(group, lr=lr, weight_decay=decay)

    def apply(self, optimizer: Optimizer, progress: Progress) -> float:
        """Sets every group's learning rate and weight decay for this update.

        The initial values are stored in the groups as "initial_lr" (the peak) and "initial_weight_decay", and therefore
        in the optimizer's state dict, so that a resumed run continues on the same schedule. A group's "lr_scale"
        multiplies its rate; "fixed_lr" keeps the group at its peak rate (SimSiam's predictor).

        Returns:
            The learning rate of the first group, ignoring its "lr_scale" and "fixed_lr", for logging.
        """
        factor = self.lr_factor(progress)
        last = next(iter(self.restart_steps(progress.steps_per_epoch)), progress.total_steps)
        for group in optimizer.param_groups:
            peak = group.setdefault("initial_lr", group["lr"])
            decay = group.setdefault("initial_weight_decay", group["weight_decay"])
            set_values(group, lr=peak * group.get("lr_scale", 1.0) * (1.0 if group.get("fixed_lr", False) else factor))
            if self.weight_decay_end is not None and decay > 0:
                whole = round(self.stretch * last)
                now = cosine_schedule(min(progress.step, last), whole, decay, self.weight_decay_end)
                set_values(group, weight_decay=now)
        return float(optimizer.param_groups[0]["initial_lr"] * factor)

    def continues(self, epochs: float, restarts: Sequence[Sequence[float]]) -> bool:
        """Whether a run of `epochs` epochs with these restarts is the beginning of this run."""
        count = len(restarts)
        same = self.restarts[:count] == tuple(map(tuple, restarts))
        return same and len(self._ends) > count and self._ends[count] == epochs

    def resumed(self, epochs: float, restarts: Sequence[Sequence[float]], *, finished: bool) -> Schedule:
        """The schedule of a run that was trained with other `epochs` and `restarts`, and is resumed with this schedule.

        A finished run that gets more epochs restarts at `restart_lr` where it ended; the curve up to there stays as it
        was. In all other cases the run keeps its restarts.

        Returns:
            The schedule; it does not `continues` the run if the run cannot be resumed with it.
        """
        known = tuple((float(epoch), float(lr)) for epoch, lr in restarts)
        if self.restarts in ((), known):
            if self.epochs == epochs:
                return dataclasses.replace(self, restarts=known)
            if finished and self.epochs > epochs:
                return dataclasses.replace(self, restarts=(*known, (epochs, self.restart_lr)))
        return self

    @property
    def _ends(self) -> tuple[float, ...]:
        """The epochs at which a cosine ends."""
        return (*(epoch for epoch, _ in self.restarts), self.epochs)


def _steps(epochs: float, steps_per_epoch: int) -> int:
    return max(1, round(epochs * steps_per_epoch))
