"""Saves checkpoints of a run, by epochs and by time."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_lib.distributed import gather_objects, in_any, rank
from ssl_lib.errors import CheckpointError
from ssl_lib.runs.files import BEST, EPOCH, LAST, STEP
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.checkpoint import snapshot, tensor_bytes, verify_checkpoint
from ssl_lib.training.checkpoint_folder import Writer, name_checkpoint, save_in_folder
from ssl_lib.training.state import TrainState

__all__ = ["Checkpoints"]

_LARGE = 64 * 2**20
"""Bytes; a state of this size is copied and written in a thread. Smaller ones take a fraction of a second to write."""


class Checkpoints(Callback):
    """Saves checkpoints every few epochs and minutes, when the run is stopped, and at its end.

    Every save is a file `step_00000460.pt`, named by the number of updates. `last.pt` links to the newest one;
    `epoch_0010.pt` and `best.pt` link to the ones that are kept. Only one save is written at a time. If a save in the
    background fails, the next save, or the end of the run, raises the error.

    Args:
        folder: The folder of the checkpoints.
        save_every: Epochs between saves.
        save_minutes: Minutes after which to save within an epoch; None saves at the end of epochs only.
        keep: Number of most recent saves to keep, to fall back to if the newest is damaged.
        keep_every: Epochs between checkpoints that are kept permanently as `epoch_0010.pt`; None keeps none.
        keep_best: Keep the checkpoint of the best evaluation as `best.pt`, by kNN accuracy, or by linear accuracy if
            kNN is not measured; of equal accuracies, the earliest.
        config: The run's resolved YAML, stored in the checkpoint, so that it suffices to rebuild the model.
        preprocessing: The preprocessing of the evaluation as plain values, stored in the checkpoint, so that the model
            can be used without the data set.

    Raises:
        ValueError: A number is out of range.
    """

    every_rank = True  # the state is gathered from all processes

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
            raise ValueError(f"save_minutes must be above 0, got {save_minutes}; None saves at the end of epochs only")
        self.folder = Path(folder)
        self.save_every, self.save_minutes = save_every, save_minutes
        self.keep, self.keep_every, self.keep_best = keep, keep_every, keep_best
        self.config, self.preprocessing = config, preprocessing
        self._writer = Writer()
        self._restart_clock(None)

    def on_start(self, state: TrainState) -> None:
        """Starts the clock, and removes the partial files of a killed save."""
        if rank() == 0:
            for path in self.folder.glob("*.pt.partial"):
                path.unlink(missing_ok=True)
        self._restart_clock(state.step if gather_objects(self._is_saved(state.step))[0] else None)

    def due(self, state: TrainState) -> bool:
        """Whether to save within an epoch, because `save_minutes` have passed; the same in all processes."""
        return self._is_time() and not state.epoch_ended

    def on_epoch(self, state: TrainState) -> None:
        """Saves if the epoch or the time is due."""
        epoch = round(state.epochs_done)
        kept = self.keep_every is not None and epoch == state.epochs_done and epoch % self.keep_every == 0
        if kept:
            self.save(state, EPOCH.format(epoch))
        elif state.at_end or epoch % self.save_every == 0 or self._is_time():
            self.save(state)

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Saves `best.pt` if an evaluation is the best so far."""
        by = "knn" if "knn" in metrics else "linear"
        if self.keep_best and by in metrics and state.step in state.evaluations:
            others = [scores[by] for step, scores in state.evaluations.items() if step != state.step and by in scores]
            if all(metrics[by] > other for other in others):
                self.save(state, BEST)

    def on_stop(self, state: TrainState) -> None:
        """Saves the state if this step is not saved yet."""
        self.save(state)

    def on_end(self, state: TrainState) -> None:
        """Waits for a save in the background."""
        self._writer.wait()

    def _restart_clock(self, saved: int | None) -> None:
        """Records the step that was saved last, and the time."""
        self._saved, self._time = saved, time.monotonic()

    def _is_saved(self, step: int) -> bool:
        """Whether a resumed run has an intact file of this step.

        If so, `best.pt` becomes a link to it, as in an uninterrupted run: a new file would already contain the
        evaluation of this step.
        """
        path = self.folder / STEP.format(step)
        if rank() > 0 or not step or not path.is_file():
            return False
        try:
            verify_checkpoint(path)
        except CheckpointError:
            return False
        return True

    def _is_time(self) -> bool:
        """Whether `save_minutes` have passed in any process; their clocks may differ."""
        return self.save_minutes is not None and in_any(time.monotonic() - self._time >= 60 * self.save_minutes)

    def save(self, state: TrainState, *names: str) -> None:
        """Saves this step as `last.pt` and under `names`; only adds the names if it is saved already."""
        if self._saved == state.step:
            path = self.folder / STEP.format(state.step)
            if rank() == 0:
                self._writer.do(functools.partial(name_checkpoint, path, names), in_background=False)
            return
        content = {**state.state_dict(), "config": self.config, "preprocessing": self.preprocessing}
        self._restart_clock(state.step)
        if rank() > 0:
            return
        large = tensor_bytes(content) >= _LARGE
        if large:
            self._writer.wait()  # before making another copy in memory
            content = snapshot(content)
        names = (*names, LAST)  # last.pt last: after a kill in between, the resumed run adds the other names
        job = functools.partial(save_in_folder, self.folder, content, names, self.keep)
        self._writer.do(job, in_background=large)
