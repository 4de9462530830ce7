"""Logs scalars to Weights & Biases."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ssl_lib.registry import LOGGERS
from ssl_lib.runs.folder import RunFolder
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.state import TrainState
from ssl_lib.utils.optional import needs

__all__ = ["WandbLog"]


@LOGGERS.register("wandb")
class WandbLog(Callback):
    """Logs a Weights & Biases run to `RUN/wandb`; needs the extra `wandb`.

    Nothing leaves the machine unless `mode` is "online"; `wandb sync RUN/wandb/offline-run-*` uploads the run later.
    A resumed run keeps its id; steps that were already logged are not logged twice.

    Args:
        run_dir: The run's folder.
        project: Project in Weights & Biases.
        run_name: Name of the run; None takes the folder's name.
        mode: "offline", or "online" to upload during the training.
        tags: Tags of the run.

    Raises:
        ConfigError: The package wandb is not installed.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        project: str = "ssl_lib",
        run_name: str | None = None,
        mode: Literal["offline", "online"] = "offline",
        tags: tuple[str, ...] = (),
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else wandb uploads its own errors, even offline
        with needs("wandb", "the logger wandb"):
            import wandb
        self._wandb: Any = wandb
        self.run_dir, self.project, self.run_name, self.mode, self.tags = Path(run_dir), project, run_name, mode, tags

    def on_start(self, state: TrainState) -> None:
        """Opens the run, with the config in the run's folder."""
        self._run = self._wandb.init(
            project=self.project,
            name=self.run_name or self.run_dir.resolve().name,
            id=hashlib.sha256(str(self.run_dir.resolve()).encode()).hexdigest()[:16],
            resume="allow" if state.step else None,
            dir=str(self.run_dir),
            mode=self.mode,
            tags=list(self.tags),
            config=RunFolder(self.run_dir).config(),
            settings=self._wandb.Settings(console="off", silent=True),
        )

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Adds a point to the curve of every scalar."""
        self._run.log({name: value for name, value in metrics.items() if name != "step"}, step=int(metrics["step"]))

    def on_end(self, state: TrainState) -> None:
        """Closes the run, and marks an interrupted one as failed."""
        self._run.finish(exit_code=0 if state.finished else 1)
