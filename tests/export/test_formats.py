"""Each export format is loaded by its own library and gives the same features."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from ssl_lib import ConfigError
from ssl_lib.export import FORMATS, export
from tests.export.helper import (
    OTHER_SIZE,
    RESNET,
    SMALL_STEM,
    TIMM_RESNET,
    TINY,
    VIT,
    backbone,
    check,
    photographs,
    skip_without_packages,
    tiny,
)

CASES = [
    ("torchvision", *RESNET),
    ("torchvision", *SMALL_STEM),
    ("torchvision", "mobilenet_v3_small", {"size": 32, "channels": 1}),  # keeps a layer of its classifier
    ("timm", *SMALL_STEM),
    ("timm", *VIT),
    ("timm", *OTHER_SIZE),
    ("timm", "timm/vit_tiny_patch16_224", {"size": 32, "image_size": 32}),
    ("timm", *TIMM_RESNET),
    ("safetensors", *TINY),
    ("safetensors", *OTHER_SIZE),
    pytest.param("onnx", *OTHER_SIZE, marks=pytest.mark.slow),
    pytest.param("torch_export", *OTHER_SIZE, marks=pytest.mark.slow),
    ("onnx", *TINY),
    ("torch_export", *TINY),
    ("huggingface", *RESNET),
    ("huggingface", *VIT),
    ("huggingface", *OTHER_SIZE),
    ("huggingface", *SMALL_STEM),
]


@pytest.mark.parametrize(("to", "name", "arguments"), CASES, ids=lambda value: str(value)[:30])
def test_usage_code_computes_the_same_features(to, name, arguments, tmp_path):
    skip_without_packages(to, name)
    model = backbone(name, **arguments)
    path = tmp_path / FORMATS[to].file
    usage, paths = export(model, to, path), photographs(tmp_path)
    for some in (paths[:1], paths):
        check(usage, model, some)


@pytest.mark.parametrize(
    ("to", "name", "arguments"),
    [
        ("torchvision", *SMALL_STEM),
        ("timm", *RESNET),
        ("safetensors", *TINY),
        ("onnx", "resnet_tiny", {"size": 12}),
        ("torch_export", *TINY),
        ("huggingface", *RESNET),
        ("huggingface", *TINY),
    ],
)
def test_model_card_code_runs_next_to_the_file(to, name, arguments, tmp_path, monkeypatch):
    skip_without_packages(to)
    model, path = backbone(name, **arguments), tmp_path / FORMATS[to].file
    export(model, to, path)
    card = (path / "README.md" if path.is_dir() else Path(f"{path}.md")).read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    monkeypatch.chdir(tmp_path)
    check(code, model, photographs(tmp_path))


def test_file_name_with_quotes_and_umlauts_is_a_valid_literal(tmp_path):
    model, path = tiny(), tmp_path / 'ein "Bär".pt2'
    check(export(model, "torch_export", path), model, photographs(tmp_path))


def test_torchvision_file_lacks_only_the_classifier(tmp_path):
    export(backbone(RESNET[0], **RESNET[1]), "torchvision", tmp_path / "a.pth")
    state = torch.load(tmp_path / "a.pth", weights_only=True)
    keys = torchvision.models.resnet18().load_state_dict(state, strict=False)
    assert set(keys.missing_keys) == {"fc.weight", "fc.bias"} and not keys.unexpected_keys


@pytest.mark.parametrize(
    ("name", "arguments", "to", "fitting"),
    [
        ("resnet_tiny", {"size": 12}, "torchvision", {"safetensors", "onnx", "torch_export", "huggingface"}),
        ("resnet_tiny", {"size": 12}, "timm", {"safetensors", "onnx", "torch_export", "huggingface"}),
        ("vit_micro", {"size": 28}, "torchvision", set(FORMATS) - {"torchvision"}),
        ("shufflenet_v2_x0_5", {"size": 32}, "timm", set(FORMATS) - {"timm"}),
    ],
)
def test_unsupported_format_error_lists_the_supported_formats(name, arguments, to, fitting, tmp_path):
    with pytest.raises(ConfigError, match=f"{to} has no network .*{name}; formats that support") as caught:
        export(backbone(name, **arguments), to, tmp_path / "file")
    assert set(str(caught.value).rpartition(": ")[2].split(", ")) == fitting
    assert not list(tmp_path.iterdir())


def test_folder_instead_of_file_and_file_instead_of_folder_raise(tmp_path):
    model = tiny()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"is a folder: torch_export writes a file, such as .*backbone\.pt2"):
        export(model, "torch_export", tmp_path)
    with pytest.raises(ConfigError, match=r"is a file: huggingface writes a folder"):
        export(model, "huggingface", tmp_path / "file")


@pytest.mark.parametrize(
    ("to", "module", "package"),
    [
        ("safetensors", "safetensors.torch", "safetensors"),
        ("huggingface", "safetensors.torch", "safetensors"),
        ("onnx", "onnxscript", "onnxscript"),
    ],
)
def test_missing_package_error_names_the_package(to, module, package, tmp_path, monkeypatch):
    if to == "onnx":
        pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"needs {package}: pip install {package}"):
        export(tiny(), to, tmp_path / "x")
