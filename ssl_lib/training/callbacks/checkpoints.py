"""Saves the state of a run."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_lib.distributed import in_any, rank
from ssl_lib.runs.files import BEST, EPOCH, LAST, STEP
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.checkpoint import snapshot, tensor_bytes
from ssl_lib.training.checkpoint_folder import Writer, name_checkpoint, save_in_folder
from ssl_lib.training.state import TrainState

__all__ = ["Checkpoints"]

_LARGE = 64 * 2**20
"""Bytes from which on a state is copied to memory and written in a thread; smaller ones take a fraction of a second."""


class Checkpoints(Callback):
    """Saves `last.pt` every few epochs and minutes, when the run is stopped, and at its end.

    Every save is a file `step_00000460.pt`, named by the updates done; `last.pt` is the newest of them, and so are
    those that are kept, as links. None is written while another is, and an error is raised by the next save or the end.

    Args:
        folder: Where to.
        save_every: Epochs between saves.
        save_minutes: Minutes after which to save within an epoch, too; None saves at the ends of epochs only.
        keep: Number of last saves that are left, so that there is one to fall back to.
        keep_every: Epochs between checkpoints kept for good as `epoch_0010.pt`; None keeps none.
        keep_best: Keep the checkpoint of the best evaluation as `best.pt`, by the kNN accuracy or, where none is
            measured, by the linear one; the earliest of equals.
        config: The run's resolved YAML, stored inside so that one file is enough to rebuild the model.
        preprocessing: What the evaluation does to images, as plain values, stored inside so that the model can be used
            where its data are not.

    Raises:
        ValueError: A number is out of range.
    """

    every_rank = True  # a state is gathered from all

    def __init__(
        self,
        folder: str | Path,
        *,
        save_every: int = 1,
        save_minutes: float | None = 10.0,
        keep: int = 2,
        keep_every: int | None = None,
        keep_best: bool = False,
        config: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        if min(save_every, keep, 1 if keep_every is None else keep_every) < 1:
            raise ValueError(
                f"save_every, keep and keep_every must be at least 1, got {save_every}, {keep} and {keep_every}"
            )
        if save_minutes is not None and not save_minutes > 0:
            raise ValueError(f"save_minutes must be above 0, got {save_minutes}; None saves at the ends of epochs only")
        self.folder = Path(folder)
        self.save_every, self.save_minutes = save_every, save_minutes
        self.keep, self.keep_every, self.keep_best = keep, keep_every, keep_best
        self.config, self.preprocessing = config, preprocessing
        self._writer = Writer()
        self._began(None)

    def on_start(self, state: TrainState) -> None:
        """Starts the clock, and removes what a save that was killed has left."""
        self._began(None)
        if rank() == 0:
            for left in self.folder.glob("*.pt.partial"):
                left.unlink(missing_ok=True)

    def due(self, state: TrainState) -> bool:
        """Whether `save` is to be called within an epoch, since `save_minutes` are over; the same in all processes."""
        return self._time_is_due() and not state.epoch_ended

    def on_epoch(self, state: TrainState) -> None:
        """Saves where the epoch or the time is due."""
        epoch = round(state.epochs_done)
        kept = self.keep_every is not None and epoch == state.epochs_done and epoch % self.keep_every == 0
        if kept:
            self.save(state, EPOCH.format(epoch))
        elif state.finished or epoch % self.save_every == 0 or self._time_is_due():
            self.save(state)

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Keeps the best of the evaluations."""
        by = "knn" if "knn" in metrics else "linear"
        if self.keep_best and by in metrics and state.step in state.evaluations:
            others = [found[by] for step, found in state.evaluations.items() if step != state.step and by in found]
            if all(metrics[by] > other for other in others):
                self.save(state, BEST)

    def on_stop(self, state: TrainState) -> None:
        """Saves what is not saved yet."""
        self.save(state)

    def on_end(self, state: TrainState) -> None:
        """Waits for the save under way."""
        self._writer.close()

    def _began(self, saved: int | None) -> None:
        """Notes the step that is saved, and when that was."""
        self._saved, self._time = saved, time.monotonic()

    def _time_is_due(self) -> bool:
        """The same in every process, whose clocks may differ."""
        return self.save_minutes is not None and in_any(time.monotonic() - self._time >= 60 * self.save_minutes)

    def save(self, state: TrainState, *names: str) -> None:
        """Saves `last.pt` unless this step is saved, and makes it known by the other names too."""
        if self._saved == state.step:
            path = self.folder / STEP.format(state.step)
            if rank() == 0:
                self._writer.do(functools.partial(name_checkpoint, path, names), in_background=False)
            return
        content = {**state.state_dict(), "config": self.config, "preprocessing": self.preprocessing}
        self._began(state.step)
        if rank() > 0:
            return
        large = tensor_bytes(content) >= _LARGE
        if large:
            self._writer.wait()  # before another copy takes memory
            content = snapshot(content)
        names = (*names, LAST)  # the newest last: what comes before it is made up for after a kill
        job = functools.partial(save_in_folder, self.folder, content, names, self.keep)
        self._writer.do(job, in_background=large)
