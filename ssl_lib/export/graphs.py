"""The network as a graph that needs none of its code: ONNX and torch.export."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch

from ssl_lib.errors import ConfigError
from ssl_lib.extras import needs
from ssl_lib.trained_backbone import HEADER, Backbone

__all__ = ["write_onnx", "write_program"]


def write_onnx(backbone: Backbone, path: Path) -> None:
    """Writes `images` float (N, C, size, size) -> `features` (N, out_dim), for any N; weights inside.

    Raises:
        ConfigError: The packages are missing, or the network cannot be written as a graph.
    """
    for package in ("onnx", "onnxscript"):
        with needs(package, "the format onnx"):
            importlib.import_module(package)
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["features"]}
    shapes, images = _dynamic_batch(backbone)
    try:
        program = torch.onnx.export(backbone.net, (images,), dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
        assert program is not None
        program.model.metadata_props[HEADER] = json.dumps(backbone.metadata)
        program.save(str(path), external_data=False)
    except Exception as error:  # whatever the exporter meets in the code of a network, or in packages of another age
        raise _failed(backbone, "an ONNX graph", error) from error


def write_program(backbone: Backbone, path: Path) -> None:
    """Writes a program of torch.export, for any N; `ssl_lib.json` inside holds the metadata.

    Raises:
        ConfigError: The network cannot be written as a graph.
    """
    shapes, images = _dynamic_batch(backbone)
    try:
        program = torch.export.export(backbone.net, (images,), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # whatever the exporter meets in the code of a network
        raise _failed(backbone, "a torch.export program", error) from error
    with path.open("wb") as file:  # by its name torch would refuse one that does not end in .pt2
        torch.export.save(program, file, extra_files={f"{HEADER}.json": json.dumps(backbone.metadata)})


def _dynamic_batch(backbone: Backbone) -> tuple[Any, torch.Tensor]:
    """Which dimensions are free, and an example; of two images, as a single one would be taken for a constant."""
    images = torch.zeros(2, backbone.preprocessing.channels, backbone.size, backbone.size)
    return ({0: torch.export.Dim("batch", max=2**31)},), images  # torch 2.6 wants a bound


def _failed(backbone: Backbone, kind: str, error: Exception) -> ConfigError:
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the exporters' own messages are about reports to send
    reason = str(error).strip().partition("\n")[0][:300]
    name = backbone.name or type(backbone.net).__name__
    return ConfigError(
        f"torch {torch.__version__} cannot write {name} as {kind}: {reason}. If the network is one of ours, take newer "
        "versions of torch and onnxscript; the format safetensors fits every network"
    )
