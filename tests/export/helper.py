"""Backbones with randomized weights and statistics, photos, and checks shared by the export tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ssl_lib import TrainedBackbone
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.export.snippets import PATHS
from ssl_lib.registry import BACKBONES

NEEDS = {
    "timm": ["timm"],
    "safetensors": ["safetensors"],
    "onnx": ["onnx", "onnxscript", "onnxruntime"],
    "huggingface": ["safetensors", "timm"],
}
"""The packages of each format."""

TINY = ("resnet_tiny", {"size": 12, "channels": 1, "width": 8})
VIT = ("vit_micro", {"size": 12, "channels": 1, "image_size": 12, "registers": 2})
OTHER_SIZE = ("vit_micro", {"size": 20, "image_size": 12, "registers": 1})
RESNET = ("resnet18", {"size": 32})
SMALL_STEM = ("resnet18", {"size": 16, "channels": 1, "stem": "small"})
TIMM_RESNET = ("timm/resnet10t", {"size": 32, "channels": 1})


def skip_without_packages(to: str, name: str = "") -> None:
    """Skips the test if a package of the format or of the backbone is missing."""
    for package in [*NEEDS.get(to, []), *(["timm"] if name.startswith("timm/") else [])]:
        pytest.importorskip(package)


def tiny() -> TrainedBackbone:
    """Returns the smallest backbone."""
    return backbone(TINY[0], **TINY[1])


def backbone(name: str, size: int, channels: int = 3, **arguments: Any) -> TrainedBackbone:
    """Returns a registered backbone in which every tensor affects the features."""
    torch.manual_seed(0)
    net = BACKBONES[name](in_channels=channels, **arguments)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for key, parameter in net.named_parameters():
        if key == "reg_token":  # initialized close to zero
            nn.init.normal_(parameter)
    images = Preprocessing(size=size, resize=size + 4, mean=(0.5, 0.4, 0.3)[:channels], std=(0.2,) * channels)
    origin = {"method": "simclr", "steps": 7, "evaluation": None}
    return TrainedBackbone(net, images, name=name, arguments={"in_channels": channels, **arguments}, origin=origin)


def batch(model: TrainedBackbone, count: int = 3) -> Tensor:
    """Returns normalized images of the backbone's input size."""
    return torch.randn(count, len(model.mean), model.size, model.size)


def photographs(folder: Path, count: int = 3) -> list[str]:
    """Writes smooth pictures, so that Pillow and torch resize them alike, of several sizes; EXIF rotates the last."""
    names = []
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (9, 7 + index, 3), dtype=np.uint8)
        picture, exif = Image.fromarray(pixels).resize((70 + index, 90)), Image.Exif()
        exif[274] = 6 if index == count - 1 else 1
        picture.save(folder / f"{index}.png", exif=exif)
        names.append(str(folder / f"{index}.png"))
    return names


def check(usage: str, model: TrainedBackbone, paths: list[str]) -> None:
    """Runs a usage snippet on pictures, and compares its images and features with the backbone's."""
    assert usage.count(PATHS) == 1
    names: dict[str, Any] = {}
    exec(compile(usage.replace(PATHS, f"paths = {paths!r}"), "usage", "exec"), names)
    images, features = torch.as_tensor(names["images"]), torch.as_tensor(names["features"])
    step = 1.01 / 255 / min(model.std)  # Pillow and torch may round differently by one of 255 levels
    torch.testing.assert_close(images, model.preprocess([Image.open(path) for path in paths]), rtol=0, atol=step)
    assert features.shape == (len(paths), model.out_dim) and not features.requires_grad
    torch.testing.assert_close(features, model(images), rtol=1e-5, atol=1e-5)
