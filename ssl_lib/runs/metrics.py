"""`metrics.jsonl`: what a run logged, a JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_lib.errors import DataError

__all__ = ["as_line", "read_metrics"]


def read_metrics(path: Path, count: int | None = None) -> list[dict[str, Any]]:
    """The lines of a file, but for a last one that lacks its line break, as a process was killed while it wrote it.

    Args:
        path: The file.
        count: Reads so many lines at most, whatever stands behind them.

    Raises:
        DataError: A line is damaged; the message names it.
        OSError: There is no such file, or it cannot be read.
    """
    found = []
    whole = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    for number, line in enumerate(whole[:count], start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise DataError(f"{path} is damaged in line {number}: mend or delete that line")
        found.append(entry)
    return found


def as_line(metrics: Mapping[str, Any]) -> str:
    """One entry as it stands in the file, its line break included; numbers keep seven digits."""
    return json.dumps({name: _rounded(value) for name, value in metrics.items()}) + "\n"


def _rounded(value: Any) -> Any:
    return value if isinstance(value, int | str | None) else float(f"{float(value):.7g}")  # a tensor's or NumPy's too
