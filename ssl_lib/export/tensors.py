"""Exports weights as a PyTorch state dict or a safetensors file."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_lib.experiment.trained_backbone import HEADER, TrainedBackbone
from ssl_lib.export.peers import Peer, cpu_state_dict
from ssl_lib.utils.optional import needs

__all__ = ["save_safetensors", "state_dict_writer", "write_safetensors"]


def state_dict_writer(peer_of: Callable[[TrainedBackbone], Peer]) -> Callable[[TrainedBackbone, Path], None]:
    """Returns a function that writes the weights under the keys of another library's network."""

    def write(backbone: TrainedBackbone, path: Path) -> None:
        torch.save(dict(peer_of(backbone).state), str(path))

    return write


def write_safetensors(backbone: TrainedBackbone, path: Path) -> None:
    """Writes the weights under the backbone's own keys, with the metadata as JSON in the header.

    Raises:
        ConfigError: The package safetensors is missing.
    """
    save_safetensors(cpu_state_dict(backbone.net), backbone.metadata, path)


def save_safetensors(state: dict[str, Tensor], metadata: Mapping[str, Any], path: Path) -> None:
    """Writes tensors to a safetensors file with the metadata in its header.

    Raises:
        ConfigError: The package safetensors is missing.
    """
    with needs("safetensors", "this format"):
        safetensors: Any = importlib.import_module("safetensors.torch")
    content = safetensors.save(state, {"format": "pt", HEADER: json.dumps(metadata)})
    path.write_bytes(content)  # save_file would create a file that only its owner can read
