"""Backbones to export, with weights and statistics that are not those of a start."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssl_lib import Backbone
from ssl_lib.preprocessing import Preprocessing
from ssl_lib.registry import BACKBONES


def backbone(name: str, size: int, channels: int = 3, **arguments: Any) -> Backbone:
    """A registered backbone, every tensor of which matters for its features."""
    torch.manual_seed(0)
    net = BACKBONES[name](in_channels=channels, **arguments)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for key, parameter in net.named_parameters():
        if key == "reg_token":  # starts at almost zero
            nn.init.normal_(parameter)
    images = Preprocessing(size=size, resize=size + 4, mean=(0.5, 0.4, 0.3)[:channels], std=(0.2,) * channels)
    origin = {"method": "simclr", "steps": 7, "evaluation": None}
    return Backbone(net, images, name=name, arguments={"in_channels": channels, **arguments}, origin=origin)


def batch(model: Backbone, count: int = 3) -> Tensor:
    """Normalised images of the size that a backbone takes."""
    return torch.randn(count, len(model.mean), model.size, model.size)


def run(usage: str, images: Tensor) -> Tensor:
    """The features that the Python given to a user finds."""
    names: dict[str, Any] = {"images": images}
    with torch.no_grad():
        exec(compile(usage, "usage", "exec"), names)
    return torch.as_tensor(names["features"])
