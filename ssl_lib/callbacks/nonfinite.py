"""What it takes to repeat a step whose numbers were not finite."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from ssl_lib.callbacks.base import Callback
from ssl_lib.checkpoint import save_checkpoint
from ssl_lib.distributed import rank
from ssl_lib.errors import CheckpointError
from ssl_lib.files import write_text
from ssl_lib.state import TrainState
from ssl_lib.types import NonFinite

__all__ = ["NonFiniteReport"]


class NonFiniteReport(Callback):
    """Writes `nonfinite.json` when bad numbers stop a run: the step, the reason, the images.

    Where the step was looked at before the optimizer moved (always on the CPU), the state before it goes into
    `nonfinite.pt`, a checkpoint like any other. `ssl-lib replay` repeats the step from it, or from the last checkpoint.

    Args:
        folder: The run's folder.
    """

    every_rank = True  # a state is gathered from all

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_start(self, state: TrainState) -> None:
        """Removes the files of an earlier run where this one begins."""
        if not state.step and rank() == 0:
            for kind in ("json", "pt"):
                (self.folder / f"nonfinite.{kind}").unlink(missing_ok=True)

    def on_nonfinite(self, state: TrainState, found: NonFinite) -> None:
        """Writes the files where the run stops."""
        if found.skipped:
            return
        before, path = state.marked_state_dict(), self.folder / "nonfinite.pt"
        if rank() > 0:
            return
        text = json.dumps(_plain(state, found), indent=2, allow_nan=False)
        with contextlib.suppress(CheckpointError, OSError):  # the disk may be full; the error under way counts more
            path.unlink(missing_ok=True)
            write_text(path.with_suffix(".json"), text + "\n")
            if before is not None and found.step == state.step:
                save_checkpoint(path, before)


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
