"""Logs scalars to `metrics.jsonl`, one JSON object per line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ssl_lib.runs.metrics import as_line, read_metrics
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.state import TrainState
from ssl_lib.utils.files import append_text, write_text

__all__ = ["MetricsLog"]


class MetricsLog(Callback):
    """Writes every logged line to a file; a resumed run first removes the lines after its checkpoint.

    Args:
        path: The file, such as `metrics.jsonl`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_start(self, state: TrainState) -> None:
        """Keeps only the lines that were logged before the checkpoint."""
        lines = read_metrics(self.path, state.lines) if state.step and self.path.exists() else []
        write_text(self.path, "".join(as_line(line) for line in lines if line["step"] < state.step))

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Appends a line."""
        append_text(self.path, as_line(metrics))
