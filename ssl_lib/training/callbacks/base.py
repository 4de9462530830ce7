"""The protocol of callbacks: they look on, and never change the training."""

from __future__ import annotations

from collections.abc import Mapping

from ssl_lib.training.state import TrainState
from ssl_lib.types import NonFinite, StepOutput

__all__ = ["Callback"]


class Callback:
    """Observes a run; subclasses override the hooks they need.

    Hooks are called in the order of the callbacks, `on_end` in the reverse order.

    Attributes:
        every_rank: Whether each process calls it, for callbacks that need all of them; else only the first does.
    """

    every_rank = False

    def on_start(self, state: TrainState) -> Mapping[str, float] | None:
        """Before the first update, after a resume has been loaded; what it returns is logged."""

    def on_backward(self, state: TrainState, output: StepOutput) -> None:
        """After the last backward pass of an update that completes a line, with its output; before the clipping.

        Not where the update is skipped.
        """

    def measure(self, state: TrainState) -> Mapping[str, float]:
        """More scalars for the line that the last update completes, the same in all processes."""
        return {}

    def on_update(self, state: TrainState) -> None:
        """After every optimizer update; `state.step` counts it already."""

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """When scalars are logged: `step`, `epoch`, and e.g. `loss`, `lr`, `images_per_second`, `data_wait`."""

    def on_nonfinite(self, state: TrainState, found: NonFinite) -> None:
        """When an update is skipped for a number that is NaN or infinite, or before it stops the run."""

    def on_epoch(self, state: TrainState) -> Mapping[str, float] | None:
        """At the end of every epoch, and of the run if it ends within one; what it returns is logged.

        If `state.stopping`, leave long work to the resumed run.
        """

    def on_stop(self, state: TrainState) -> None:
        """When the run was asked to stop, after the update under way, and its epoch's end if it was the last."""

    def on_end(self, state: TrainState) -> None:
        """Last, also when an error or the user ends the run early; see `state.finished`."""
