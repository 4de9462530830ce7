"""Calls the callbacks of a run; used by the trainer only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from ssl_lib.distributed import rank
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.nonfinite import nonfinite_error
from ssl_lib.training.state import TrainState
from ssl_lib.types import NonFinite

__all__ = ["CallbackList"]


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

    def report_nonfinite(self, state: TrainState, found: NonFinite | None, skipped_before: int = 0) -> None:
        """Reports a NaN or infinite value to every callback, and stops the run unless the update is skipped.

        Raises:
            NonFiniteLossError: `found.skipped` is 0.
        """
        if found is None:
            return
        for callback in self:
            callback.on_nonfinite(state, found)
        if not found.skipped:
            raise nonfinite_error(found, skipped_before)
