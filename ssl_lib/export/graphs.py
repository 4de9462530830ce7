"""The network as a graph that needs none of its code: ONNX and torch.export."""

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
    """Writes `images` float (N, C, size, size) -> `features` (N, out_dim), for any N; weights inside.

    What onnxruntime makes of the graph is compared with the network first.

    Raises:
        ConfigError: The packages are missing, or the network cannot be written as a graph that does the same.
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
    except Exception as error:  # whatever the exporter meets in the code of a network, or in packages of another age
        raise _failed(backbone, "an ONNX graph", error) from error
    path.write_bytes(content)


def _onnx_model(backbone: TrainedBackbone) -> Any:
    """The ModelProto, by torch's newer exporter, or where that fails by the older one.

    The newer one of torch 2.6 fails on batch normalization with the onnxscript of today. The older one follows an
    example, and would take a choice that depends on the images for the only one: it gets networks that are programs,
    which make no such choice.
    """
    program, images = _program(backbone)
    try:
        made = torch.onnx.export(program, dynamo=True, dynamic_shapes=({0: "batch"},), **_NAMES)
        assert made is not None
        return made.model_proto
    except Exception:
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            file: Any = io.BytesIO()
            free = {"images": {0: "batch"}, "features": {0: "batch"}}
            torch.onnx.export(backbone.net, (images,), file, dynamo=False, dynamic_axes=free, **_NAMES)
            return importlib.import_module("onnx").load_model_from_string(file.getvalue())
        raise


def write_program(backbone: TrainedBackbone, path: Path) -> None:
    """Writes a program of torch.export, for any N; `ssl_lib.json` inside holds the metadata.

    Raises:
        ConfigError: The network cannot be written as a graph.
    """
    try:
        program, _ = _program(backbone)
    except Exception as error:  # whatever the exporter meets in the code of a network
        raise _failed(backbone, "a torch.export program", error) from error
    with path.open("wb") as file:  # by its name torch would refuse one that does not end in .pt2
        torch.export.save(program, file, extra_files={f"{HEADER}.json": json.dumps(backbone.metadata)})


@torch.no_grad()
def _compare(content: bytes, backbone: TrainedBackbone) -> None:
    """Passes images through an ONNX graph, of another number than it was made with."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, backbone.preprocessing.channels, backbone.size, backbone.size, generator=generator)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found, expected = torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), backbone(images)
    error = (found - expected).abs().max() / expected.abs().max()
    if not error < 1e-3:
        raise ValueError(f"its features are others, by {error:.2g} of the largest")


def _program(backbone: TrainedBackbone) -> tuple[torch.export.ExportedProgram, torch.Tensor]:
    """The program, and its example: of two images, as a single one would be taken for a constant."""
    images = torch.zeros(2, backbone.preprocessing.channels, backbone.size, backbone.size)
    shapes = ({0: torch.export.Dim("batch", max=2**31)},)  # torch 2.6 wants a bound
    return torch.export.export(backbone.net, (images,), dynamic_shapes=shapes, strict=False), images


def _failed(backbone: TrainedBackbone, kind: str, error: Exception) -> ConfigError:
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the exporters' own messages are about reports to send
    reason = str(error).strip().partition("\n")[0][:300]
    name = backbone.name or type(backbone.net).__name__
    return ConfigError(
        f"torch {torch.__version__} cannot write {name} as {kind}: {reason}. If the network is one of ours, take newer "
        "versions of torch and onnxscript; the format safetensors fits every network"
    )
