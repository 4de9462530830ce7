"""Saves the state of a run."""

from __future__ import annotations

from pathlib import Path

from ssl_lib import distributed
from ssl_lib.callbacks.base import Callback
from ssl_lib.checkpoint import save_checkpoint
from ssl_lib.state import TrainState

__all__ = ["Checkpoints"]


class Checkpoints(Callback):
    """Saves `last.pt` every few epochs and at the end of the run.

    Args:
        folder: Where to.
        save_every: Epochs between saves of `last.pt`.
        keep_every: Epochs between checkpoints kept as `epoch_0010.pt`; None keeps none.
        config: The run's resolved YAML, stored inside so that one file is enough to rebuild the model.
    """

    every_rank = True  # a state is gathered from all

    def __init__(
        self, folder: str | Path, *, save_every: int = 1, keep_every: int | None = None, config: str | None = None
    ) -> None:
        if save_every < 1 or (keep_every is not None and keep_every < 1):
            raise ValueError(f"save_every and keep_every must be at least 1, got {save_every} and {keep_every}")
        self.folder = Path(folder)
        self.save_every = save_every
        self.keep_every = keep_every
        self.config = config

    def on_epoch(self, state: TrainState) -> None:
        """Saves where the epoch is due."""
        epoch = round(state.epochs_done)
        last = state.finished or epoch % self.save_every == 0
        kept = self.keep_every is not None and epoch == state.epochs_done and epoch % self.keep_every == 0
        saved = {**state.state_dict(), "config": self.config} if last or kept else {}
        if distributed.rank() > 0:
            return
        if last:
            save_checkpoint(self.folder / "last.pt", saved)
        if kept:
            save_checkpoint(self.folder / f"epoch_{epoch:04d}.pt", saved)
