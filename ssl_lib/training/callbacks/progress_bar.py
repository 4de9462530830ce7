"""Progress bar with loss, learning rate and speed."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import NoReturn

from tqdm import tqdm

from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.state import TrainState
from ssl_lib.types import NonFinite

__all__ = ["ProgressBar"]


class ProgressBar(Callback):
    """Draws a bar in a terminal; prints one line per epoch if the output is not a terminal, such as in a log file.

    The line has the epoch's mean loss (since the resume, if the run was resumed within it) and last learning rate.
    """

    _started = _logged = _averaged = 0
    _loss = _seconds = _lr = 0.0

    def on_start(self, state: TrainState) -> None:
        """Opens the bar."""
        self._bar: tqdm[NoReturn] = tqdm(
            total=state.total_steps,
            initial=state.step,
            unit="step",
            disable=None,
            dynamic_ncols=True,
            desc=_epoch(state),
        )
        self._begin_epoch(state)
        if state.step:
            what = "this run is finished" if state.finished else "resuming from a checkpoint"
            self._print(f"{what}: {state.step} of {state.total_steps} steps are done")
        if not state.finished:
            self._print(state.schedule.describe_peak(state.optimizer, state.loader.batch_size))
            for line in _restart(state):
                self._print(line)

    def on_update(self, state: TrainState) -> None:
        """Advances the bar."""
        self._bar.update()

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Shows training scalars next to the bar; prints other scalars, such as accuracies, on a line of their own."""
        if "loss" not in metrics:
            self._logged = state.step if "skipped" in metrics else self._logged
            if not state.finished:  # the final results are printed as a table
                scalars = {name: value for name, value in metrics.items() if name not in ("step", "epoch")}
                self._print(f"{_epoch(state)}  " + "  ".join(f"{name} {value:.4g}" for name, value in scalars.items()))
            return
        steps = state.step - self._logged
        self._logged = state.step
        self._averaged += steps
        self._loss += metrics["loss"] * steps
        self._seconds += 1 / metrics["images_per_second"] * steps
        self._lr = metrics["lr"]
        if not self._bar.disable:
            self._bar.set_description(_epoch(state), refresh=False)
            self._bar.set_postfix_str(_scalars(metrics["loss"], metrics["lr"], metrics["images_per_second"]))

    def on_nonfinite(self, state: TrainState, found: NonFinite) -> None:
        """Prints the reason for a skipped update."""
        if found.skipped:
            self._print(f"{_epoch(state)}  skipped: {found.reason}")

    def on_epoch(self, state: TrainState) -> None:
        """Prints the epoch's line if no bar is drawn."""
        steps = state.step - self._started
        if self._bar.disable and steps:
            count = self._averaged
            scalars = _scalars(self._loss / count, self._lr, count / self._seconds) if count else "all updates skipped"
            self._print(f"{_epoch(state)}  step {state.step}/{state.total_steps}  {scalars}")
        self._begin_epoch(state)

    def on_end(self, state: TrainState) -> None:
        """Closes the bar."""
        self._bar.close()

    def _begin_epoch(self, state: TrainState) -> None:
        self._started = self._logged = state.step
        self._averaged = 0
        self._loss = self._seconds = self._lr = 0.0

    def _print(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)
        sys.stderr.flush()


def _scalars(loss: float, lr: float, images_per_second: float) -> str:
    return f"loss {loss:.4g}  lr {lr:.3g}  {images_per_second:.0f} images/s"


def _epoch(state: TrainState) -> str:
    epoch = max(0, state.step - 1) // state.loader.steps_per_epoch + 1
    return f"epoch {epoch}/{math.ceil(state.total_steps / state.loader.steps_per_epoch)}"


def _restart(state: TrainState) -> Iterator[str]:
    """Describes the learning rate and the other schedules after a restart of a run that was made longer."""
    schedule, number = state.schedule, sum(step <= state.step for step in state.restart_steps)
    if not number:
        return
    ends = [*(epoch for epoch, _ in schedule.restarts), schedule.epochs]
    _, fraction = schedule.restarts[number - 1]
    peak = state.optimizer.param_groups[0]["initial_lr"]
    yield (
        f"this run was made longer, from {ends[number - 1]:g} to {ends[number]:g} epochs: the learning rate restarts "
        f"at {peak * fraction:.6g} ({fraction:g} of the peak) and falls by a cosine to {peak * schedule.end:.6g}"
    )
    if schedule.weight_decay_end is not None:
        yield f"the weight decay stays at its final value, {schedule.weight_decay_end:g}"
    if pairs := state.method.ema_pairs():
        momentum = state.method.ema_momentum(state.progress.settled)
        yield f"the teacher's momentum stays at its final value, {momentum:g}"
        if momentum == 1 and any(state.method.encoder in set(teacher.modules()) for teacher, _ in pairs):
            yield (
                "warning: with this momentum the teacher, which is the evaluated network, no longer changes. "
                "To train it further, start a new run from it with backbone.weights"
            )
