"""Records the step at which a NaN or infinite value stopped a run."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_lib.errors import DataError
from ssl_lib.runs.files import NONFINITE_FILE
from ssl_lib.runs.folder import RunFolder
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.state import TrainState
from ssl_lib.types import NonFinite
from ssl_lib.utils.files import write_text

__all__ = ["NonFiniteReport", "recorded_step"]


class NonFiniteReport(Callback):
    """Writes `nonfinite.json` when a NaN or infinite value stops a run: the step, the reason, the images.

    A resumed run that gets past that step removes the file.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / NONFINITE_FILE
        self._recorded: int | None = None  # the step that stopped the run earlier

    def on_start(self, state: TrainState) -> None:
        """Removes the file of an earlier run if this run is new; else reads the recorded step."""
        if not state.step:
            self.path.unlink(missing_ok=True)
        self._recorded = recorded_step(self.path.parent)

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Removes the file once the recorded step has passed or was skipped."""
        if self._recorded is not None and state.step > self._recorded:
            self.path.unlink(missing_ok=True)
            self._recorded = None

    def on_nonfinite(self, state: TrainState, found: NonFinite) -> None:
        """Writes the file if the run stops."""
        if found.skipped:
            return
        lines = (f"  {json.dumps(key)}: {json.dumps(v, allow_nan=False)}" for key, v in _plain(state, found).items())
        with contextlib.suppress(OSError):  # the disk may be full; the error about the values matters more
            write_text(self.path, "{\n" + ",\n".join(lines) + "\n}\n")


def recorded_step(folder: Path | None) -> int | None:
    """The step in a folder's `nonfinite.json`: -1 if it cannot be read, None if there is no such file."""
    try:
        content = None if folder is None else RunFolder(folder).nonfinite()
        return None if content is None else int(content["step"])
    except (DataError, KeyError, ValueError, TypeError, OverflowError):
        return -1


def _plain(state: TrainState, found: NonFinite) -> dict[str, Any]:
    indices, name_of = found.indices.tolist(), getattr(state.loader.data, "path", None)
    loss = found.loss if found.loss is None or math.isfinite(found.loss) else str(found.loss)
    return {
        "step": found.step,
        "reason": found.reason,
        "loss": loss,
        "lr": found.lr,
        "precision": state.precision.name,
        "device": str(state.precision.device),
        "indices": indices,
        "files": [str(name_of(index)) for index in indices] if callable(name_of) else [],
    }
