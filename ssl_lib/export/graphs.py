"""Exports a backbone as a computation graph that runs without its Python code: ONNX and torch.export."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch

from ssl_lib.errors import ConfigError
from ssl_lib.experiment.trained_backbone import HEADER, TrainedBackbone
from ssl_lib.utils.optional import needs

__all__ = ["write_onnx", "write_program"]

_NAMES: dict[str, Any] = {"input_names": ["images"], "output_names": ["features"], "verbose": False}


def write_onnx(backbone: TrainedBackbone, path: Path) -> None:
    """Writes an ONNX graph with the weights: `images` float (N, C, size, size) -> `features` (N, out_dim), any N.

    The graph is run by onnxruntime and compared with the network before it is written.

    Raises:
        ConfigError: A package is missing, the network cannot be exported, or the graph computes different features.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        with needs(package, "the format onnx"):
            importlib.import_module(package)
    try:
        model = _onnx_model(backbone)
        entry = model.metadata_props.add()
        entry.key, entry.value = HEADER, json.dumps(backbone.metadata)
        content = model.SerializeToString()
        _compare(content, backbone)
    except Exception as error:  # exporters raise any type of error, depending on the network and on package versions
        raise _failed(backbone, "an ONNX graph", error) from error
    path.write_bytes(content)


def _onnx_model(backbone: TrainedBackbone) -> Any:
    """Returns the ModelProto from torch's dynamo exporter, or from the TorchScript exporter if dynamo fails.

    torch 2.6's dynamo exporter fails on batch normalization with recent versions of onnxscript. The TorchScript
    exporter traces one example, so it would silently fix a branch that depends on the images. `_program` fails for
    networks with such a branch, so they never reach the TorchScript exporter.
    """
    program, images = _program(backbone)
    try:
        onnx_program = torch.onnx.export(program, dynamo=True, dynamic_shapes=({0: "batch"},), **_NAMES)
        assert onnx_program is not None
        return onnx_program.model_proto
    except Exception:
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            file: Any = io.BytesIO()
            axes = {"images": {0: "batch"}, "features": {0: "batch"}}
            torch.onnx.export(backbone.net, (images,), file, dynamo=False, dynamic_axes=axes, **_NAMES)
            return importlib.import_module("onnx").load_model_from_string(file.getvalue())
        raise


def write_program(backbone: TrainedBackbone, path: Path) -> None:
    """Writes a torch.export program for any batch size, with the metadata in its extra file `ssl_lib.json`.

    Raises:
        ConfigError: The network cannot be exported.
    """
    try:
        program, _ = _program(backbone)
    except Exception as error:  # the exporter raises any type of error, depending on the network
        raise _failed(backbone, "a torch.export program", error) from error
    with path.open("wb") as file:  # given a path, torch requires the suffix .pt2
        torch.export.save(program, file, extra_files={f"{HEADER}.json": json.dumps(backbone.metadata)})


@torch.no_grad()
def _compare(content: bytes, backbone: TrainedBackbone) -> None:
    """Checks an ONNX graph against the network on a batch size that differs from the exported example.

    Raises:
        ValueError: The features differ.
    """
    onnxruntime: Any = importlib.import_module("onnxruntime")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, backbone.preprocessing.channels, backbone.size, backbone.size, generator=generator)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    actual, expected = torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), backbone(images)
    error = (actual - expected).abs().max() / expected.abs().max()
    if not error < 1e-3:
        raise ValueError(f"the graph's features differ from the network's by {error:.2g} of the largest feature")


def _program(backbone: TrainedBackbone) -> tuple[torch.export.ExportedProgram, torch.Tensor]:
    """Returns the exported program and its example input of two images: torch treats a batch size of 1 as constant."""
    images = torch.zeros(2, backbone.preprocessing.channels, backbone.size, backbone.size)
    shapes = ({0: torch.export.Dim("batch", max=2**31)},)  # torch 2.6 requires a bound
    return torch.export.export(backbone.net, (images,), dynamic_shapes=shapes, strict=False), images


def _failed(backbone: TrainedBackbone, kind: str, error: Exception) -> ConfigError:
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the exporters' own messages only ask for a bug report
    reason = str(error).strip().partition("\n")[0][:300]
    name = backbone.name or type(backbone.net).__name__
    return ConfigError(
        f"torch {torch.__version__} cannot export {name} as {kind}: {reason}. For a backbone of ssl_lib, upgrade torch "
        "and onnxscript; the format safetensors supports every network"
    )
