"""Reads JSON of unknown origin without tracebacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ssl_lib.errors import DataError

__all__ = ["parse_json", "read_json"]


def parse_json(text: str) -> Any:
    """Parses JSON; None if it is damaged, nested too deeply, or holds numbers too long to convert."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_json(path: Path, how_to_fix: str) -> dict[str, Any]:
    """Reads a JSON file that holds a mapping.

    Args:
        path: The file.
        how_to_fix: What to do if it is damaged, for the message.

    Raises:
        DataError: The file is missing, cannot be read or does not hold a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    content = parse_json(text)
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged: it does not hold a JSON object; {how_to_fix}")
    return content
