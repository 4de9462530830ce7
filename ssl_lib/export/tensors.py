"""Plain tensors: state dicts by torch.save, and safetensors with a header."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_lib.experiment.trained_backbone import HEADER, TrainedBackbone
from ssl_lib.export.peers import Peer, plain_state
from ssl_lib.utils.optional import needs

__all__ = ["save_safetensors", "state_dict_writer", "write_safetensors"]


def state_dict_writer(peer_of: Callable[[TrainedBackbone], Peer]) -> Callable[[TrainedBackbone, Path], None]:
    """Writes the weights under the keys of another library's network."""

    def write(backbone: TrainedBackbone, path: Path) -> None:
        torch.save(dict(peer_of(backbone).state), str(path))

    return write


def write_safetensors(backbone: TrainedBackbone, path: Path) -> None:
    """Writes the weights under their own keys, and the metadata as JSON in the header.

    Raises:
        ConfigError: The package safetensors is missing.
    """
    save_safetensors(plain_state(backbone.net), backbone.metadata, path)


def save_safetensors(state: dict[str, Tensor], metadata: Mapping[str, Any], path: Path) -> None:
    """Writes tensors with the metadata in the header.

    Raises:
        ConfigError: The package safetensors is missing.
    """
    with needs("safetensors", "this format"):
        safetensors: Any = importlib.import_module("safetensors.torch")
    content = safetensors.save(state, {"format": "pt", HEADER: json.dumps(metadata)})
    path.write_bytes(content)  # its own way to write to a file hides that from all other users
