"""A progress bar with loss, learning rate and speed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NoReturn

from tqdm import tqdm

from ssl_lib.callbacks.base import Callback
from ssl_lib.state import TrainState

__all__ = ["ProgressBar"]


class ProgressBar(Callback):
    """Draws a bar in a terminal; prints a line per epoch where the output is not one, such as a log file."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None
        self._shown: dict[str, str] = {}

    def on_start(self, state: TrainState) -> None:
        """Opens the bar."""
        self._bar = tqdm(
            total=state.total_steps,
            initial=state.step,
            unit="step",
            disable=None,
            dynamic_ncols=True,
            desc=_epoch(state),
        )

    def on_update(self, state: TrainState) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update()

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Shows the training scalars at the bar's end."""
        if "loss" in metrics:
            self._shown = {
                "loss": f"{metrics['loss']:.4g}",
                "lr": f"{metrics['lr']:.3g}",
                "images/s": f"{metrics['images_per_second']:.0f}",
            }
        if self._bar is not None and not self._bar.disable:
            self._bar.set_description(_epoch(state), refresh=False)
            self._bar.set_postfix(self._shown)

    def on_epoch(self, state: TrainState) -> None:
        """Prints the epoch's line where no bar is drawn."""
        if self._bar is not None and self._bar.disable:
            scalars = "  ".join(f"{name} {value}" for name, value in self._shown.items())
            print(f"{_epoch(state)}  step {state.step}/{state.total_steps}  {scalars}", file=sys.stderr, flush=True)

    def on_end(self, state: TrainState) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()


def _epoch(state: TrainState) -> str:
    epoch = max(0, state.step - 1) // state.loader.steps_per_epoch + 1
    return f"epoch {epoch}/{state.schedule.epochs:g}"
