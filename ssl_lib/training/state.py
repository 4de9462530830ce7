"""What is under way in a run: read by callbacks, saved in checkpoints."""

from __future__ import annotations

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
from ssl_lib.types import Progress
from ssl_lib.utils.precision import Precision
from ssl_lib.utils.seeding import global_state, seed_everything, set_global_state

__all__ = ["TrainState"]


@dataclass
class TrainState:
    """The parts of a run and how far it has come.

    Attributes:
        model: What is called in place of `method`: it averages gradients over the processes, and is the method itself
            in a single one.
        step: Optimizer updates done, and so the index of the next one.
        resumed_at: Those that were done when this process took the run up.
        finished: Whether the last update has been made.
        stopping: Whether the run was asked to stop, and goes no further.
        lines: Number of lines logged so far.
        evaluations: The accuracies measured so far, by the updates done then.
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
    _mark: dict[str, Any] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.total_steps = self.schedule.total_steps(self.loader.steps_per_epoch)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer trains."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    @property
    def progress(self) -> Progress:
        """The progress of the update that comes next."""
        return Progress(self.step, self.total_steps, self.loader.steps_per_epoch)

    @property
    def last_progress(self) -> Progress:
        """The progress of the update that was made last."""
        return Progress(max(0, self.step - 1), self.total_steps, self.loader.steps_per_epoch)

    @property
    def finished(self) -> bool:
        """Whether all updates have been made."""
        return self.step >= self.total_steps

    @property
    def epoch_ended(self) -> bool:
        """Whether the last update was its epoch's last, or the run's."""
        return self.ends_epoch(self.step)

    def ends_epoch(self, updates: int) -> bool:
        """Whether an epoch, or the run, is over after so many updates."""
        return updates >= self.total_steps or updates % self.loader.steps_per_epoch == 0

    @property
    def epochs_done(self) -> float:
        """Epochs trained so far; a whole number at an epoch's end."""
        return self.step / self.loader.steps_per_epoch

    def state_dict(self) -> dict[str, Any]:
        """All that the next update depends on, as plain tensors and numbers; all processes call it together."""
        return {
            "step": self.step,
            "total_steps": self.total_steps,
            "data": {"seed": self.loader.seed, "batch_size": self.loader.batch_size, "images": len(self.loader.data)},
            "method": gathered(self.method.state_dict()),
            "encoder": next((name for name, part in self.method.named_modules() if part is self.method.encoder), None),
            "optimizer": gathered(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "processes": gather_objects({"rng": global_state(self.precision.device), "meter": self.meter.state_dict()}),
            "lines": self.lines,
            "evaluations": dict(self.evaluations),
        }

    def mark(self) -> None:
        """Notes what the forward passes of the next update change: generators, and buffers such as BatchNorm's."""
        self._mark = {
            "step": self.step,
            "buffers": {name: buffer.clone() for name, buffer in self.method.named_buffers()},
            "scaler": self.scaler.state_dict(),
            "rng": global_state(self.precision.device),
            "meter": self.meter.mark(),
        }

    def restore_buffers(self) -> None:
        """Sets the buffers back to the mark."""
        for name, buffer in self._mark["buffers"].items():
            self.method.get_buffer(name).copy_(buffer)

    def marked_state_dict(self) -> dict[str, Any] | None:
        """The `state_dict` as it was at the mark; None where there is none, or the optimizer has stepped since."""
        if self._mark.get("step") != self.step:
            return None
        state = self.state_dict()
        before = {name: value for name, value in self._mark["buffers"].items() if name in state["method"]}
        state["method"].update(before)
        own = {"rng": self._mark["rng"], "meter": self.meter.state_dict(self._mark["meter"])}
        processes = gather_objects(own)
        return {**state, "scaler": self._mark["scaler"], "processes": processes}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken.

        Raises:
            CheckpointError: The state was saved by another model, data set or batch size; the message says which.
        """
        here = self.state_dict()
        if missing := sorted(here.keys() - saved.keys()):
            raise CheckpointError(
                f"the checkpoint lacks {', '.join(missing)}: another version of ssl_lib saved it, with which the run "
                "goes on; here, only a new run can take its backbone, by backbone.weights"
            )
        for key in ("data", "total_steps"):
            if saved[key] != here[key]:
                raise CheckpointError(
                    f"the checkpoint was saved with {key} {saved[key]}, this run has {here[key]}: "
                    "resume with the config it was started with, as a run cannot be made longer, or start a new run"
                )
        try:
            self.method.load_state_dict(scattered(saved["method"], self.method.state_dict()))
            self.optimizer.load_state_dict(scattered_optimizer(saved["optimizer"], self.optimizer))
            self.scaler.load_state_dict(saved["scaler"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error)[:300]
            raise CheckpointError(f"the checkpoint does not fit this run's method or optimizer: {reason}") from error
        self.step = self.resumed_at = saved["step"]
        self.lines, self.evaluations = saved["lines"], dict(saved["evaluations"])
        own = saved["processes"][rank() % len(saved["processes"])]
        self.meter.load_state_dict(own["meter"], self.precision.device)
        if len(saved["processes"]) == world_size():
            set_global_state(own["rng"], self.precision.device)
        else:  # of another number of processes, the generators have no successors
            seed_everything(self.loader.seed, self.step, rank())
