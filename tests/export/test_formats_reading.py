"""Exports of runs on other images than 8-bit gray or RGB: the printed code reads files as the training did."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from ssl_lib import TrainedBackbone
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.export import FORMATS, export
from ssl_lib.registry import BACKBONES
from tests.export.helper import PATHS, skip_without_packages

BANDS = np.array([100, 1000, 3000, 5000], np.uint16)  # constant bands of 12 bits, the last one beyond its range
READINGS = [
    ({"range": (0, 4095), "depth": 16, "bands": "all"}, [100 / 4095, 1000 / 4095, 3000 / 4095, 1]),
    (
        {"range": (0, 4000), "depth": 8, "bands": (2, 0)},
        [round(3000 / 4000 * 255) / 255, round(100 / 4000 * 255) / 255],
    ),
    ({"depth": 16, "bands": (1,)}, [1000 / 65535]),
    ({"range": (0, 4095), "bands": (2, 1, 0)}, [round(v / 4095 * 255) / 255 for v in (3000, 1000, 100)]),
]


def model_for(reading, channels, name="resnet18"):
    torch.manual_seed(0)
    net = BACKBONES[name](in_channels=channels)
    mean, std = (0.5, 0.4, 0.3, 0.2)[:channels], (0.2, 0.3, 0.4, 0.5)[:channels]
    images = Preprocessing(size=32, resize=36, mean=mean, std=std, **reading)
    return TrainedBackbone(net, images, name=name, arguments={"in_channels": channels})


@pytest.mark.parametrize(
    ("to", "reading", "expected"),
    [
        *[(to, *READINGS[0]) for to in ("torchvision", "timm", "safetensors", "huggingface", "torch_export", "onnx")],
        *[("torchvision", *case) for case in READINGS[1:]],
    ],
)
def test_code_reads_bands_and_ranges_as_in_the_training(to, reading, expected, tmp_path, monkeypatch):
    skip_without_packages(to)
    model, path = model_for(reading, len(expected)), tmp_path / FORMATS[to].file
    np.save(tmp_path / "scene.npy", np.broadcast_to(BANDS, (50, 40, 4)))
    usage = export(model, to, path)
    card = (path / "README.md" if path.is_dir() else path.with_name(f"{path.name}.md")).read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    monkeypatch.chdir(tmp_path)
    for snippet in (usage, code):
        names: dict[str, object] = {}
        exec(compile(snippet.replace(PATHS, "paths = ['scene.npy']"), "usage", "exec"), names)
        images = torch.as_tensor(names["images"])
        assert images.shape == (1, len(expected), 32, 32)
        wanted = (torch.tensor(expected) - torch.tensor(model.mean)) / torch.tensor(model.std)
        torch.testing.assert_close(images[0, :, 5, 5], wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(torch.as_tensor(names["features"]), model(images), rtol=1e-4, atol=1e-4)
    assert "convert to" not in card and " bits with " in card


def test_folder_for_the_hub_has_no_config_that_reads_other_pixels(tmp_path):
    skip_without_packages("huggingface")
    export(model_for({"range": (0, 4095)}, 3), "huggingface", tmp_path / "folder")
    assert not (tmp_path / "folder/preprocessor_config.json").exists()
    header = json.loads((tmp_path / "folder/config.json").read_text())["ssl_lib"]["preprocessing"]
    assert header["range"] == [0, 4095]
    assert TrainedBackbone.from_file(tmp_path / "folder").preprocessing.range == (0, 4095)


@pytest.mark.parametrize("to", ["torchvision", "timm", "safetensors", "huggingface", "onnx"])
def test_code_for_arrays_of_other_channels_takes_arrays(to, tmp_path, monkeypatch):
    skip_without_packages(to)
    model, path = model_for({}, 4), tmp_path / FORMATS[to].file
    usage = export(model, to, path)
    names: dict[str, object] = {}
    exec(compile(usage, "usage", "exec"), names)
    assert names["pixels"].shape == (1, 4, 32, 32) and "paths" not in usage and "convert" not in usage
    images = torch.as_tensor(names["images"])
    wanted = (0 - torch.tensor(model.mean)) / torch.tensor(model.std)
    torch.testing.assert_close(images[0, :, 5, 5], wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.as_tensor(names["features"]), model(images), rtol=1e-4, atol=1e-4)
