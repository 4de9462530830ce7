"""Scalars to TensorBoard."""

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
    """Event files in `RUN/tensorboard`, for `tensorboard --logdir runs`; needs `tensorboard`, the extra of that name.

    A resumed run hides what it had logged past its checkpoint.

    Args:
        run_dir: The run's folder.
        flush_seconds: Time after which what was logged is on the disk.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, run_dir: str | Path, *, flush_seconds: int = 30) -> None:
        with needs("tensorboard", "the logger tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self._open: Any = SummaryWriter
        self.run_dir, self.flush_seconds = Path(run_dir), flush_seconds

    def on_start(self, state: TrainState) -> None:
        """Opens a file, with the run's config as text."""
        folder = str(self.run_dir / "tensorboard")
        self._writer = self._open(folder, flush_secs=self.flush_seconds, purge_step=state.step)
        config = self.run_dir / CONFIG_FILE
        if config.is_file() and not state.step:
            self._writer.add_text("config", f"```yaml\n{config.read_text(encoding='utf-8')}\n```")

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """A curve per scalar, over the steps."""
        for name, value in metrics.items():
            if name != "step":
                self._writer.add_scalar(name, value, metrics["step"])

    def on_end(self, state: TrainState) -> None:
        """Closes the file."""
        self._writer.close()
