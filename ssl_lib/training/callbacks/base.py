"""The base class of callbacks: they observe the training and never change it."""

from __future__ import annotations

from collections.abc import Mapping

from ssl_lib.training.state import TrainState
from ssl_lib.types import NonFinite, StepOutput

__all__ = ["Callback"]


class Callback:
    """Observes a run; subclasses override the hooks that they need.

    Hooks are called in the order of the callbacks, `on_end` in reverse order.

    Attributes:
        every_rank: Whether every process calls the callback; otherwise only the first process does.
    """

    every_rank = False

    def on_start(self, state: TrainState) -> Mapping[str, float] | None:
        """Called before the first update, after a checkpoint is loaded; returned scalars are logged."""

    def on_backward(self, state: TrainState, output: StepOutput) -> None:
        """Called after the last backward pass of an update that completes a logged line, before clipping.

        Not called if the update is skipped.

        Args:
            state: The run; the gradients are in `state.parameters`.
            output: Output of the last forward pass.
        """

    def measure(self, state: TrainState) -> Mapping[str, float]:
        """Returns further scalars for the line that the last update completes; the same in all processes."""
        return {}

    def on_update(self, state: TrainState) -> None:
        """Called after every optimizer update; `state.step` already counts it."""

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Called when scalars are logged: `step`, `epoch`, and e.g. `loss`, `lr`, `images_per_second`, `data_wait`."""

    def on_nonfinite(self, state: TrainState, found: NonFinite) -> None:
        """Called when a NaN or infinite value makes the trainer skip an update, or before it stops the run."""

    def on_epoch(self, state: TrainState) -> Mapping[str, float] | None:
        """Called at the end of every epoch, and of the run if it ends within one; returned scalars are logged.

        If `state.stopping`, leave long work to the resumed run.
        """

    def on_stop(self, state: TrainState) -> None:
        """Called when the run stops early, after the current update, and after `on_epoch` if that ended an epoch."""

    def on_end(self, state: TrainState) -> None:
        """Called last, also if an error or the user ends the run early; see `state.finished`."""
