"""Scalars to a file, a JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ssl_lib.callbacks.base import Callback
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
        """Keeps the lines of updates that are done, and no others."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < state.step]
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        partial.replace(self.path)

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Appends a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: _rounded(value) for name, value in metrics.items()}) + "\n")


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.7g}")
