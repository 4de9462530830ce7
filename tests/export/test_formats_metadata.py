"""Every export contains the metadata of its backbone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ssl_lib import backbones
from ssl_lib.export import FORMATS, export
from tests.export.helper import SMALL_STEM, TINY, VIT, backbone, skip_without_packages


def _extra_file(path: Path) -> str:
    files = {"ssl_lib.json": ""}
    torch.export.load(path, extra_files=files)
    return files["ssl_lib.json"]


def _onnx_metadata(path: Path) -> str:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    assert [value.shape[1:] for value in session.get_inputs()] == [[1, 12, 12]]
    assert isinstance(session.get_inputs()[0].shape[0], str)  # any batch size
    return session.get_modelmeta().custom_metadata_map["ssl_lib"]


def _json_file(path: Path) -> str:
    return (path.parent / f"{path.name}.json").read_text()


METADATA = {
    "torch_export": _extra_file,
    "safetensors": lambda path: backbones.weights.read_header(path)["ssl_lib"],
    "onnx": _onnx_metadata,
    "huggingface": lambda path: json.dumps(json.loads((path / "config.json").read_text())["ssl_lib"]),
    "torchvision": _json_file,
    "timm": _json_file,
}


@pytest.mark.parametrize("to", FORMATS)
def test_export_contains_backbone_and_preprocessing_metadata(to, tmp_path):
    skip_without_packages(to)
    assert METADATA.keys() == FORMATS.keys()
    name, arguments = {"torchvision": SMALL_STEM, "timm": VIT}.get(to, TINY)
    model = backbone(name, **arguments)
    path = tmp_path / FORMATS[to].file
    export(model, to, path)
    metadata = json.loads(METADATA[to](path))
    images, size = metadata["preprocessing"], arguments["size"]
    assert (images["size"], images["resize"]) == (size, size + 4)
    assert (images["channels"], images["interpolation"]) == (1, "bicubic")
    assert (images["mean"], images["std"]) == ([0.5], [0.2])
    assert metadata["backbone"] == {"name": name, "arguments": model.arguments}
    assert (metadata["out_dim"], metadata["method"], metadata["steps"]) == (model.net.out_dim, "simclr", 7)
    assert metadata["part"] == "student" and metadata["ssl_lib"] and metadata["license"] is None
    card = (path / "README.md" if path.is_dir() else Path(f"{path}.md")).read_text()
    assert name in card and str(tmp_path) not in card
