"""Reads and writes `metrics.jsonl`: a run's logged lines, one JSON object each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_lib.errors import DataError
from ssl_lib.utils.files import parse_json

__all__ = ["as_line", "read_metrics"]


def read_metrics(path: Path, count: int | None = None) -> list[dict[str, Any]]:
    """Reads the lines of a file; a last line without a line break, which a killed process left, is dropped.

    Args:
        path: The file.
        count: Largest number of lines to read.

    Returns:
        Per line `step` and `epoch` as integers of at least 0, and numbers or texts by name.

    Raises:
        DataError: The file is missing, or a line is damaged; the message names it.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return [_parse(line, path, number) for number, line in enumerate(lines[:count], start=1)]


def as_line(metrics: Mapping[str, Any]) -> str:
    """Formats scalars as a line of the file, with its line break; numbers keep seven digits."""
    return json.dumps({name: _rounded(value) for name, value in metrics.items()}) + "\n"


def _parse(line: str, path: Path, number: int) -> dict[str, Any]:
    entry = parse_json(line)
    whole = isinstance(entry, dict) and all(_is_count(entry.get(key)) for key in ("step", "epoch"))
    if not whole or not all(isinstance(value, int | float | str | None) for value in entry.values()):
        raise DataError(f"{path} is damaged in line {number}: correct or delete that line")
    found: dict[str, Any] = entry
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _rounded(value: Any) -> Any:
    return value if isinstance(value, int | str | None) else float(f"{float(value):.7g}")  # also tensors and NumPy's
