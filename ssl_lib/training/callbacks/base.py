"""The base class of callbacks, which observe the training and never change it, and their calls by the trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from ssl_lib.distributed import rank
from ssl_lib.errors import NonFiniteLossError
from ssl_lib.training.state import TrainState
from ssl_lib.types import NonFinite, StepOutput

__all__ = ["Callback", "CallbackList"]


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


class CallbackList:
    """The callbacks that this process calls: all in the first process, in other processes those with `every_rank`.

    Args:
        callbacks: The callbacks of the run, in the order of the calls.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = [callback for callback in callbacks if callback.every_rank or rank() == 0]

    def __iter__(self) -> Iterator[Callback]:
        return iter(self._callbacks)

    def start(self, state: TrainState, stack: ExitStack) -> None:
        """Starts every callback, and then logs what they return; leaving `stack` ends the started ones."""
        returned = []
        for callback in self:
            returned.append(callback.on_start(state))
            stack.callback(callback.on_end, state)
        for metrics in returned:
            self.log(state, metrics)

    def backward(self, state: TrainState, output: StepOutput) -> None:
        """Shows the gradients of an update that completes a line."""
        for callback in self:
            callback.on_backward(state, output)

    def measure(self, state: TrainState) -> dict[str, float]:
        """Collects the callbacks' scalars for the current line; if two share a name, the first callback's is kept."""
        values: dict[str, float] = {}
        for callback in self:
            values = {**callback.measure(state), **values}
        return values

    def log(self, state: TrainState, metrics: Mapping[str, float] | None) -> None:
        """Passes the scalars of the last update to every callback, with step and epoch; does nothing for None."""
        if metrics is None:
            return
        last = state.last_progress
        line = {"step": last.step, "epoch": last.epoch, **metrics}
        state.lines += 1
        for callback in self:
            callback.on_log(state, line)

    def report_nonfinite(self, state: TrainState, found: NonFinite | None) -> None:
        """Reports a NaN or infinite value to every callback, and stops the run unless the update is skipped.

        Raises:
            NonFiniteLossError: `found.skipped` is 0.
        """
        if found is None:
            return
        for callback in self:
            callback.on_nonfinite(state, found)
        if not found.skipped:
            raise NonFiniteLossError(f"{found.reason}. Checkpoints saved before it are unchanged.")
