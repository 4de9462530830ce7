"""Calls the callbacks of a run; only the Trainer uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ssl_lib.distributed import rank
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.nonfinite import nonfinite_error
from ssl_lib.training.state import TrainState
from ssl_lib.types import NonFinite

__all__ = ["CallbackList"]


class CallbackList:
    """The callbacks that this process calls, in their order: all in the first process, else those of `every_rank`.

    Args:
        callbacks: The callbacks of the run.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = [callback for callback in callbacks if callback.every_rank or rank() == 0]

    def __iter__(self) -> Iterator[Callback]:
        return iter(self._callbacks)

    def measure(self, state: TrainState) -> dict[str, float]:
        """Collects the callbacks' scalars for the current line; of two with one name the first callback's stays."""
        values: dict[str, float] = {}
        for callback in self:
            values = {**callback.measure(state), **values}
        return values

    def log(self, state: TrainState, metrics: Mapping[str, float] | None) -> None:
        """Passes scalars of the last update to every callback, with its step and epoch; nothing if they are None."""
        if metrics is None:
            return
        last = state.last_progress
        line = {"step": last.step, "epoch": last.epoch, **metrics}
        state.lines += 1
        for callback in self:
            callback.on_log(state, line)

    def report_nonfinite(self, state: TrainState, found: NonFinite | None, skipped_before: int = 0) -> None:
        """Passes what is not finite to every callback, and stops the run unless the update is skipped.

        Raises:
            NonFiniteLossError: `found.skipped` is 0.
        """
        if found is None:
            return
        for callback in self:
            callback.on_nonfinite(state, found)
        if not found.skipped:
            raise nonfinite_error(found, skipped_before)
