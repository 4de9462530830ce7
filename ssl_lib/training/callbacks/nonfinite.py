"""What it takes to repeat a step whose numbers were not finite."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_lib.distributed import rank
from ssl_lib.errors import CheckpointError
from ssl_lib.runs.files import NONFINITE_FILE, NONFINITE_STATE
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.checkpoint import save_checkpoint
from ssl_lib.training.state import TrainState
from ssl_lib.types import NonFinite
from ssl_lib.utils.files import write_text

__all__ = ["NonFiniteReport"]


class NonFiniteReport(Callback):
    """Writes `nonfinite.json` when bad numbers stop a run: the step, the reason, the images.

    Where the step was looked at before the optimizer moved (always on the CPU), the state before it goes into
    `nonfinite.pt`, a checkpoint like any other. `ssl-lib replay` repeats the step from it, or from the last checkpoint.
    A run that is resumed and gets past that step removes both.

    Args:
        folder: The run's folder.
    """

    every_rank = True  # a state is gathered from all

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._met: int | None = None  # the step that stopped the run before

    def on_start(self, state: TrainState) -> None:
        """Removes the files of an earlier run where this one begins; finds those that it left itself."""
        if not state.step:
            self._remove()
        self._met = _step_met(self.folder / NONFINITE_FILE)

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Removes the files once it is known that the step went well, or was skipped."""
        if self._met is not None and state.step > self._met:
            self._remove()
            self._met = None

    def on_nonfinite(self, state: TrainState, found: NonFinite) -> None:
        """Writes the files where the run stops."""
        if found.skipped:
            return
        before, path = state.marked_state_dict(), self.folder / NONFINITE_STATE
        if rank() > 0:
            return
        lines = (f"  {json.dumps(key)}: {json.dumps(v, allow_nan=False)}" for key, v in _plain(state, found).items())
        with contextlib.suppress(CheckpointError, OSError):  # the disk may be full; the error under way counts more
            path.unlink(missing_ok=True)
            write_text(self.folder / NONFINITE_FILE, "{\n" + ",\n".join(lines) + "\n}\n")
            if before is not None and found.step == state.step:
                save_checkpoint(path, before)

    def _remove(self) -> None:
        for name in (NONFINITE_FILE, NONFINITE_STATE) if rank() == 0 else ():
            (self.folder / name).unlink(missing_ok=True)


def _step_met(path: Path) -> int | None:
    """The step in the record; that before the first where it cannot be read, and None where there is none."""
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["step"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
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
