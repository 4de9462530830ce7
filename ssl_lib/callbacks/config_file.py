"""The run's config, beside what came of it."""

from __future__ import annotations

from pathlib import Path

from ssl_lib.callbacks.base import Callback
from ssl_lib.files import write_text
from ssl_lib.state import TrainState

__all__ = ["ConfigFile"]


class ConfigFile(Callback):
    """Writes a text, such as the run's resolved YAML, when the run starts or goes on.

    Args:
        path: Where to.
        text: What.
    """

    def __init__(self, path: str | Path, text: str) -> None:
        self.path, self.text = Path(path), text

    def on_start(self, state: TrainState) -> None:
        """Writes it, over that of the run's earlier part."""
        write_text(self.path, self.text)
