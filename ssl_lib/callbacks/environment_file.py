"""Where and with what a run is trained, as a file beside its metrics."""

from __future__ import annotations

from pathlib import Path

from ssl_lib.callbacks.base import Callback
from ssl_lib.environment import describe_environment
from ssl_lib.files import write_json
from ssl_lib.state import TrainState

__all__ = ["EnvironmentFile"]


class EnvironmentFile(Callback):
    """Writes `environment.json` as the training starts or goes on: versions, device and git commit.

    Args:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_start(self, state: TrainState) -> None:
        """Writes it."""
        write_json(self.path, describe_environment(state.precision.device))
