"""The default callbacks of a run."""

from __future__ import annotations

from pathlib import Path

from ssl_lib.runs.files import CHECKPOINTS, METRICS_FILE
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.callbacks.checkpoints import Checkpoints
from ssl_lib.training.callbacks.diagnosis import Diagnosis
from ssl_lib.training.callbacks.metrics_log import MetricsLog
from ssl_lib.training.callbacks.nonfinite import NonFiniteReport
from ssl_lib.training.callbacks.progress_bar import ProgressBar

__all__ = ["default_callbacks"]


def default_callbacks(run_dir: str | Path | None, checkpoints: Checkpoints | None = None) -> list[Callback]:
    """Progress bar and diagnosis; with a run folder also `metrics.jsonl`, checkpoints and the report of NaN values.

    Args:
        run_dir: The run's folder; None writes no files.
        checkpoints: Saves the checkpoints; None takes `Checkpoints` with its default settings.
    """
    if run_dir is None:
        return [ProgressBar(), Diagnosis(), *([checkpoints] if checkpoints else [])]
    folder = Path(run_dir)
    saved = checkpoints or Checkpoints(folder / CHECKPOINTS)
    return [ProgressBar(), MetricsLog(folder / METRICS_FILE), Diagnosis(folder), saved, NonFiniteReport(folder)]
