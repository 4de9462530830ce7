"""Saves checkpoints atomically, and loads them after verifying their checksums, without executing code."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ssl_lib.errors import CheckpointError
from ssl_lib.utils.files import whole_file

__all__ = ["load_checkpoint", "save_checkpoint", "snapshot", "tensor_bytes", "verify_checkpoint"]

FORMAT = 1


def save_checkpoint(path: str | Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint to a temporary file, flushes it to disk and renames it, so that `path` is always complete.

    Args:
        path: The file; its folder is created if it is missing.
        state: Tensors, numbers, strings, None, lists and mappings of them.

    Raises:
        CheckpointError: The disk is full or not writable, or the state holds other values, which could not be loaded
            again; the previous file is unchanged.
    """
    path, content = Path(path), {"format": FORMAT, **_plain(state)}
    try:
        with whole_file(path) as partial:
            torch.save(content, str(partial))  # by name: one call that Ctrl-C cannot interrupt
    except (OSError, RuntimeError) as error:
        if str(error).startswith("DataLoader worker"):  # torch raises it at an arbitrary line
            raise
        raise CheckpointError(_save_error(path, content, error)) from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Verifies a checkpoint's checksums and loads it to the CPU, with `weights_only=True`.

    Raises:
        CheckpointError: The file is missing or damaged, holds other values than plain data, or is not a checkpoint of
            ssl_lib.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    verify_checkpoint(Path(path))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than plain tensors and numbers; it is not loaded") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of ssl_lib (format {FORMAT})")
    return state


def verify_checkpoint(path: Path) -> Path:
    """Verifies the checksums of a file, and returns its path.

    `torch.load` checks no checksums, so that a flipped bit would become a wrong weight.

    Raises:
        CheckpointError: The file is damaged, or cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is None:
            return path
        damage = f"it is damaged: the checksum of {bad.partition('/')[2]} is wrong"
    except OSError as error:
        damage = error.strerror or str(error)
    except Exception as error:  # damaged bytes can raise any error
        damage = f"it is damaged or not a checkpoint ({error})"
    raise CheckpointError(f"cannot read the checkpoint {path}: {damage}")


def snapshot(state: Mapping[str, Any]) -> dict[str, Any]:
    """Copies a state to CPU memory, so that training does not change it."""
    return dict(_plain(state, tensor=lambda value: value.detach().to("cpu", copy=True)))


def tensor_bytes(state: Mapping[str, Any]) -> int:
    """Size of all tensors in a state, in bytes."""
    return sum(value.nbytes for value in tree_leaves(dict(state)) if isinstance(value, Tensor))


def _plain(value: Any, key: str = "", tensor: Callable[[Tensor], Tensor] = lambda value: value) -> Any:
    """Converts NumPy numbers to Python numbers; refuses values that `weights_only=True` would not load."""
    if isinstance(value, Mapping):
        plain = OrderedDict((name, _plain(entry, f"{key}.{name}", tensor)) for name, entry in value.items())
        if hasattr(value, "_metadata"):  # module versions, which load_state_dict reads
            plain._metadata = value._metadata  # type: ignore[attr-defined]
        return plain
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{key}[{index}]", tensor) for index, entry in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        return tensor(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"a checkpoint can hold only tensors, numbers and strings; {key.lstrip('.')} has type {type(value).__name__}"
    )


def _save_error(path: Path, content: Mapping[str, Any], error: Exception) -> str:
    """The message for a failed save; torch's own message for a full disk only names file positions."""
    full = "inline_container" in str(error)
    reason = "the file could not be written completely" if full else getattr(error, "strerror", None) or str(error)
    existing = next(folder for folder in (path.parent, *path.absolute().parents) if folder.is_dir())
    needed, free = tensor_bytes(content) / 2**20, shutil.disk_usage(existing).free / 2**20
    return (
        f"cannot write the checkpoint {path}: {reason} ({needed:.1f} MB needed, {free:.1f} MB free). "
        "Earlier checkpoints are intact: free disk space, then continue with --resume"
    )
