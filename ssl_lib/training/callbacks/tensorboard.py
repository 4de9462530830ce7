"""Logs scalars to TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_lib.registry import LOGGERS
from ssl_lib.runs.files import CONFIG_FILE
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.state import TrainState
from ssl_lib.utils.optional import needs

__all__ = ["TensorBoardLog"]


@LOGGERS.register("tensorboard")
class TensorBoardLog(Callback):
    """Writes event files to `RUN/tensorboard`, for `tensorboard --logdir runs`; needs the extra `tensorboard`.

    A resumed run hides the scalars that were logged after its checkpoint.

    Args:
        run_dir: The run's folder.
        flush_seconds: Seconds after which scalars are written to disk.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, run_dir: str | Path, *, flush_seconds: int = 30) -> None:
        with needs("tensorboard", "the logger tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self._open: Any = SummaryWriter
        self.run_dir, self.flush_seconds = Path(run_dir), flush_seconds

    def on_start(self, state: TrainState) -> None:
        """Opens an event file; a new run adds its config as text."""
        folder = str(self.run_dir / "tensorboard")
        self._writer = self._open(folder, flush_secs=self.flush_seconds, purge_step=state.step)
        config = self.run_dir / CONFIG_FILE
        if config.is_file() and not state.step:
            self._writer.add_text("config", f"```yaml\n{config.read_text(encoding='utf-8')}\n```")

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Adds a point to the curve of every scalar."""
        for name, value in metrics.items():
            if name != "step":
                self._writer.add_scalar(name, value, metrics["step"])

    def on_end(self, state: TrainState) -> None:
        """Closes the file."""
        self._writer.close()
