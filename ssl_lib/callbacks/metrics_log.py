"""Scalars to a file, a JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ssl_lib.callbacks.base import Callback
from ssl_lib.files import append_text, write_text
from ssl_lib.state import TrainState

__all__ = ["MetricsLog"]


class MetricsLog(Callback):
    """Writes every logged line to `metrics.jsonl`; a resumed run first drops the lines past its checkpoint.

    Args:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_start(self, state: TrainState) -> None:
        """Keeps the lines that were logged before the checkpoint, and no others."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        lines = [line for line in lines[: state.lines] if line.endswith("\n")]
        write_text(self.path, "".join(line for line in lines if json.loads(line)["step"] < state.step))

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Appends a line."""
        append_text(self.path, json.dumps({name: _rounded(value) for name, value in metrics.items()}) + "\n")


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.7g}")
