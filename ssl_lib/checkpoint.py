"""Checkpoints: written whole or not at all, read without executing anything."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_lib.errors import CheckpointError

__all__ = ["find_checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = 1


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint beside `path`, flushes it to the disk and renames it, so that `path` is never half written.

    Args:
        path: Where to; its folder is made if it is missing.
        state: Plain tensors, numbers, texts, lists and mappings.

    Raises:
        CheckpointError: The disk is full or not writable, or the state holds more than plain values, which could not be
            read again; the checkpoint before it is left whole.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    content = {"format": FORMAT, **_plain(state)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, str(partial))  # by name: written in one call, which Ctrl-C cannot break
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write the checkpoint {path}: {error}; free some space and resume") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _plain(value: Any, key: str = "") -> Any:
    """The value with numpy's numbers as Python's; what `weights_only=True` would not read is refused."""
    if isinstance(value, Mapping):
        plain = OrderedDict((name, _plain(entry, f"{key}.{name}")) for name, entry in value.items())
        if hasattr(value, "_metadata"):  # versions of the modules, which load_state_dict reads
            plain._metadata = value._metadata  # type: ignore[attr-defined]
        return plain
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{key}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str | Tensor):
        return value
    raise CheckpointError(
        f"a checkpoint holds plain tensors and numbers; {key.lstrip('.')} is a {type(value).__name__}"
    )


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU, with `weights_only=True`.

    Raises:
        CheckpointError: The file is missing, damaged, holds anything but plain data, or is no checkpoint of ours.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is damaged, or holds more than plain tensors and numbers: not loaded") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"cannot read the checkpoint {path}, it may be damaged: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of ssl_lib (format {FORMAT})")
    return state


def find_checkpoint(run: str | Path) -> Path:
    """The checkpoint that RUN means on the command line: the file itself, or the last one of a run's folder.

    Raises:
        CheckpointError: There is none.
    """
    run = Path(run)
    if run.is_file():
        return run
    last = run / "checkpoints" / "last.pt"
    if last.is_file():
        return last
    raise CheckpointError(f"no run at {run}: expected a checkpoint file, or a folder with checkpoints/last.pt")
