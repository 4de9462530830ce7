"""A run's folder as an object: one method reads each of its files, and checks shape and types."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_lib.errors import ConfigError, DataError
from ssl_lib.runs.files import (
    CONFIG_FILE,
    DIAGNOSIS_FILE,
    ENVIRONMENT_FILE,
    EVALUATION_FILE,
    METRICS_FILE,
    NONFINITE_FILE,
    list_checkpoints,
)
from ssl_lib.runs.metrics import read_metrics
from ssl_lib.runs.results import Results, read_results
from ssl_lib.utils.files import read_json
from ssl_lib.utils.yaml import parse_yaml

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, finished or not.

    Every method that reads a file returns None if the file is missing, and raises `DataError`, which names the file,
    if it is damaged.

    Attributes:
        path: The folder.
    """

    path: Path

    def config(self) -> dict[str, Any] | None:
        """The resolved config as plain values; None for a script's run."""
        path = self.path / CONFIG_FILE
        if not path.is_file():
            return None
        try:
            content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        except (ConfigError, OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        if not isinstance(content, dict):
            raise DataError(f"{path} is damaged: it does not hold a mapping of keys to values")
        return content

    def metrics(self) -> list[dict[str, Any]] | None:
        """The logged lines; see `read_metrics`."""
        path = self.path / METRICS_FILE
        return read_metrics(path) if path.is_file() else None

    def evaluation(self, name: str = EVALUATION_FILE) -> tuple[dict[str, Any], Results] | None:
        """An evaluation: the whole content and the results; see `read_results`."""
        path = self.path / name
        return read_results(path) if path.is_file() else None

    def environment(self) -> dict[str, Any] | None:
        """Versions, device and commit."""
        return self._json(ENVIRONMENT_FILE)

    def diagnosis(self) -> dict[str, Any] | None:
        """The doctor's facts and findings."""
        return self._json(DIAGNOSIS_FILE)

    def nonfinite(self) -> dict[str, Any] | None:
        """The step that a NaN or infinite value stopped, if any."""
        return self._json(NONFINITE_FILE)

    def checkpoints(self) -> list[Path]:
        """The checkpoints: `last.pt`, then the others, newest first."""
        return list_checkpoints(self.path)

    def _json(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return read_json(path, "delete it") if path.is_file() else None
