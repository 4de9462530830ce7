"""The state of a training run, which callbacks read and checkpoints save."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ssl_lib.data import Loader
from ssl_lib.distributed import gather_objects, rank, world_size
from ssl_lib.errors import CheckpointError
from ssl_lib.methods.base import Method
from ssl_lib.optim.schedules import Schedule
from ssl_lib.training.fsdp import gathered, scattered, scattered_optimizer
from ssl_lib.training.meter import Meter
from ssl_lib.training.resume_checks import check_data, describe_data, resumed_schedule
from ssl_lib.types import Progress
from ssl_lib.utils.precision import Precision
from ssl_lib.utils.seeding import global_state, seed_everything, set_global_state

__all__ = ["TrainState"]


@dataclass
class TrainState:
    """The components of a run and its progress.

    Attributes:
        model: The module to call instead of `method`; it averages gradients over the processes. In a single process it
            is the method itself.
        step: Number of completed optimizer updates, which is also the index of the next one.
        resumed_at: The step at which this process resumed the run; 0 for a new run.
        stopping: Whether the run was asked to stop; no further updates are made.
        lines: Number of lines logged so far.
        evaluations: Accuracies measured so far, by step.
        total_steps: Number of updates in the run.
        restart_steps: Number of updates before each restart of a run that was made longer.
    """

    method: Method
    model: nn.Module
    loader: Loader
    optimizer: Optimizer
    schedule: Schedule
    precision: Precision
    scaler: torch.amp.GradScaler
    meter: Meter
    step: int = 0
    resumed_at: int = 0
    stopping: bool = False
    lines: int = 0
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)
    total_steps: int = field(init=False)
    restart_steps: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._follow(self.schedule)

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """The loader's seed, batch size, number of images and their fingerprint."""
        return describe_data(self.loader)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters of the optimizer."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    @property
    def progress(self) -> Progress:
        """Progress at the next update."""
        return self._progress_at(self.step)

    @property
    def last_progress(self) -> Progress:
        """Progress at the last update."""
        return self._progress_at(max(0, self.step - 1))

    @property
    def finished(self) -> bool:
        """Whether all updates have been made."""
        return self.step >= self.total_steps

    @property
    def at_end(self) -> bool:
        """Whether the run is finished, or was finished at this step before it was made longer."""
        return self.finished or self.step in self.restart_steps

    @property
    def epoch_ended(self) -> bool:
        """Whether the last update ended an epoch or the run, also before it was made longer."""
        return self.ends_epoch(self.step)

    def ends_epoch(self, updates: int) -> bool:
        """Whether an epoch or the run ends after this number of updates, or ended before it was made longer."""
        at_end = updates >= self.total_steps or updates in self.restart_steps
        return at_end or updates % self.loader.steps_per_epoch == 0

    @property
    def epochs_done(self) -> float:
        """Number of epochs trained so far; an integer at the end of an epoch."""
        return self.step / self.loader.steps_per_epoch

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, as plain tensors and numbers; all processes must call it."""
        return {
            "step": self.step,
            "total_steps": self.total_steps,
            "schedule": {"epochs": self.schedule.epochs, "restarts": self.schedule.restarts},
            "data": self.data,
            "method": gathered(self.method.state_dict()),
            "encoder": next((name for name, part in self.method.named_modules() if part is self.method.encoder), None),
            "optimizer": gathered(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "processes": gather_objects({"rng": global_state(self.precision.device), "meter": self.meter.state_dict()}),
            "lines": self.lines,
            "evaluations": dict(self.evaluations),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restores a state from `state_dict`; a finished run that gets more epochs restarts its learning rate.

        Raises:
            CheckpointError: The state belongs to another model, data set, batch size or schedule, or is damaged.
        """
        if missing := sorted(self.state_dict().keys() - saved.keys() - {"schedule"}):
            raise CheckpointError(
                f"the checkpoint lacks {', '.join(missing)}: another version of ssl_lib saved it, and must resume it; "
                "a new run can use its backbone with backbone.weights"
            )
        check_data(saved["data"], self.data)
        self._follow(resumed_schedule(self.schedule, saved, self.loader.steps_per_epoch))
        try:
            self._load(saved)
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            reason = str(error)[:300]
            raise CheckpointError(f"the checkpoint does not fit this run's method or optimizer: {reason}") from error

    def _follow(self, schedule: Schedule) -> None:
        self.schedule, self.total_steps = schedule, schedule.total_steps(self.loader.steps_per_epoch)
        self.restart_steps = schedule.restart_steps(self.loader.steps_per_epoch)

    def _progress_at(self, step: int) -> Progress:
        return Progress(step, self.total_steps, self.loader.steps_per_epoch, next(iter(self.restart_steps), None))

    def _load(self, saved: Mapping[str, Any]) -> None:
        self.method.load_state_dict(scattered(saved["method"], self.method.state_dict()))
        self.optimizer.load_state_dict(scattered_optimizer(saved["optimizer"], self.optimizer))
        self.scaler.load_state_dict(saved["scaler"])
        self.step = self.resumed_at = operator.index(saved["step"])
        self.lines, self.evaluations = operator.index(saved["lines"]), dict(saved["evaluations"])
        own = saved["processes"][rank() % len(saved["processes"])]
        self.meter.load_state_dict(own["meter"], self.precision.device)
        if len(saved["processes"]) == world_size():
            set_global_state(own["rng"], self.precision.device)
        else:  # with another number of processes, the generators' states do not continue
            seed_everything(self.loader.seed, self.step, rank())
