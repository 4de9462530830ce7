"""Scalars to Weights & Biases."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ssl_lib.registry import LOGGERS
from ssl_lib.runs.files import CONFIG_FILE
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.state import TrainState
from ssl_lib.utils.optional import needs
from ssl_lib.utils.yaml import parse_yaml

__all__ = ["WandbLog"]


@LOGGERS.register("wandb")
class WandbLog(Callback):
    """A run of Weights & Biases, in `RUN/wandb`; needs `wandb`, the extra of that name.

    Nothing leaves the machine unless `mode` is "online"; `wandb sync RUN/wandb/offline-run-*` sends it later.
    A resumed run goes on under the same id; steps that were logged past its checkpoint are not logged twice.

    Args:
        run_dir: The run's folder.
        project: Of Weights & Biases.
        run_name: Of the run; the folder's name if None.
        mode: "offline", or "online" to send as it goes.
        tags: Of the run.

    Raises:
        ConfigError: Weights & Biases' package is not installed.
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
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would send errors of its own from offline runs too
        with needs("wandb", "the logger wandb"):
            import wandb
        self._wandb: Any = wandb
        self.run_dir, self.project, self.run_name, self.mode, self.tags = Path(run_dir), project, run_name, mode, tags

    def on_start(self, state: TrainState) -> None:
        """Opens the run, with the config that the folder holds."""
        path = self.run_dir / CONFIG_FILE
        config = parse_yaml(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None
        self._run = self._wandb.init(
            project=self.project,
            name=self.run_name or self.run_dir.resolve().name,
            id=hashlib.sha256(str(self.run_dir.resolve()).encode()).hexdigest()[:16],
            resume="allow" if state.step else None,
            dir=str(self.run_dir),
            mode=self.mode,
            tags=list(self.tags),
            config=config,
            settings=self._wandb.Settings(console="off", silent=True),
        )

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """A point per scalar, at the step."""
        self._run.log({name: value for name, value in metrics.items() if name != "step"}, step=int(metrics["step"]))

    def on_end(self, state: TrainState) -> None:
        """Closes the run; one that was broken off is marked so."""
        self._run.finish(exit_code=0 if state.finished else 1)
