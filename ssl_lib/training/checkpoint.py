"""Checkpoints: written whole or not at all, checked and read without executing anything."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_lib.errors import CheckpointError
from ssl_lib.utils.files import whole_file

__all__ = ["find_damage", "load_checkpoint", "save_checkpoint", "snapshot", "tensor_bytes"]

FORMAT = 1


def save_checkpoint(path: str | Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint beside `path`, flushes it to the disk and renames it, so that `path` is never half written.

    Args:
        path: Where to; its folder is made if it is missing.
        state: Plain tensors, numbers, texts, lists and mappings.

    Raises:
        CheckpointError: The disk is full or not writable, or the state holds more than plain values, which could not be
            read again; the checkpoint before it is left whole.
    """
    path, content = Path(path), {"format": FORMAT, **_plain(state)}
    try:
        with whole_file(path) as partial:
            torch.save(content, str(partial))  # by name: written in one call, which Ctrl-C cannot break
    except (OSError, RuntimeError) as error:
        if str(error).startswith("DataLoader worker"):  # whose end torch tells of wherever the program is
            raise
        raise CheckpointError(_why_not(path, content, error)) from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Checks a checkpoint by its checksums and reads it onto the CPU, with `weights_only=True`.

    Raises:
        CheckpointError: The file is missing, damaged, holds anything but plain data, or is no checkpoint of ours.
    """
    if not Path(path).exists():
        raise CheckpointError(f"no checkpoint at {path}")
    if damage := find_damage(Path(path)):
        raise CheckpointError(f"cannot read the checkpoint {path}: {damage}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than plain tensors and numbers: not loaded") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of ssl_lib (format {FORMAT})")
    return state


def snapshot(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a state in CPU memory, which training cannot change."""
    return dict(_plain(state, tensor=lambda value: value.detach().to("cpu", copy=True)))


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in a state."""
    return sum(tensor.nbytes for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(entry)


def _plain(value: Any, key: str = "", tensor: Callable[[Tensor], Tensor] = lambda value: value) -> Any:
    """The value with numpy's numbers as Python's; what `weights_only=True` would not read is refused."""
    if isinstance(value, Mapping):
        plain = OrderedDict((name, _plain(entry, f"{key}.{name}", tensor)) for name, entry in value.items())
        if hasattr(value, "_metadata"):  # versions of the modules, which load_state_dict reads
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
        f"a checkpoint holds plain tensors and numbers; {key.lstrip('.')} is a {type(value).__name__}"
    )


def find_damage(path: Path) -> str | None:
    """What is wrong with a file; None where all of it is as it was written.

    `torch.load` looks at no checksum: a flipped bit would be a wrong weight.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # the bytes of a broken file may mean anything
        return f"it is damaged, or no checkpoint ({error})"
    return None if bad is None else f"it is damaged, the checksum of {bad.partition('/')[2]} is wrong"


def _why_not(path: Path, content: Mapping[str, Any], error: Exception) -> str:
    """What to tell of a failed save; torch's own message of a full disk is about positions in a file."""
    full = "inline_container" in str(error)
    reason = "the disk did not take all of it" if full else getattr(error, "strerror", None) or str(error)
    existing = next(folder for folder in (path.parent, *path.absolute().parents) if folder.is_dir())
    needed, free = tensor_bytes(content) / 2**20, shutil.disk_usage(existing).free / 2**20
    return (
        f"cannot write the checkpoint {path}: {reason} ({needed:.1f} MB are needed, {free:.1f} MB free). "
        "What was saved before is whole: make room, then go on with --resume"
    )
