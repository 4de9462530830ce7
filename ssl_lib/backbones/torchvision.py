"""torchvision models as backbones: ConvNeXt, RegNet, EfficientNet, Swin, DenseNet, MobileNet and more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import nn

from ssl_lib.backbones import resnet
from ssl_lib.backbones.weights import load_weights
from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.registry import BACKBONES

__all__ = ["torchvision_net"]

# GoogLeNet and Inception transform their input and return several outputs; SqueezeNet has no final Linear layer.
EXCLUDED = ("googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1")
NAMES = [name for name in torchvision.models.list_models(module=torchvision.models) if name not in EXCLUDED]


def torchvision_net(name: str, *, in_channels: int = 3, weights: str | None = None) -> nn.Module:
    """Builds a torchvision classifier without its last layer: (N, C, H, W) -> (N, out_dim).

    Removes the last Linear layer and the dropout before it. All other layers are kept, such as pooling, ConvNeXt's
    LayerNorm and MobileNet v3's hidden layer. State dict keys match torchvision. ViT and MaxViT require images of
    224 pixels.

    Args:
        name: Model name from `torchvision.models.list_models()`.
        in_channels: Number of image channels.
        weights: Initial weights: a state dict file, a run folder or checkpoint, or the name of torchvision weights; see
            `load_weights`. None initializes randomly.

    Raises:
        ConfigError: The name is unknown, or the weights are missing or do not fit.
    """
    if name not in NAMES:
        raise ConfigError(
            f"torchvision has no network {name!r} that can be used as a backbone.{did_you_mean(name, NAMES)}"
        )
    net: Any = torchvision.models.get_model(name, weights=None)
    _set_channels(net, in_channels)
    net.out_dim = _strip_classifier(net)
    if weights is not None:
        load_weights(net, weights, name)
    return net  # type: ignore[no-any-return]


def _strip_classifier(net: nn.Module) -> int:
    """Removes the last Linear and the dropout before it; returns the Linear's input width."""
    name, classifier = list(net.named_children())[-1]
    layers = classifier if isinstance(classifier, nn.Sequential) else nn.Sequential(classifier)
    last = layers[-1]
    assert isinstance(last, nn.Linear), f"{type(net).__name__} does not end in a Linear layer"
    layers = layers[:-1]
    while len(layers) and isinstance(layers[-1], nn.Dropout):
        layers = layers[:-1]
    setattr(net, name, layers)
    return last.in_features


def _set_channels(net: nn.Module, in_channels: int) -> None:
    """Gives the first convolution `in_channels` inputs, with random weights of the same output scale."""
    stem = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    if stem.in_channels != in_channels:
        kernel = torch.randn(stem.out_channels, in_channels, *stem.kernel_size, device=stem.weight.device)
        scale = stem.weight.detach().std() * (stem.in_channels / in_channels) ** 0.5
        stem.weight = nn.Parameter(kernel * scale)
        stem.in_channels = in_channels


_ARGUMENTS = """\
Args:
    in_channels: Number of image channels.
    weights: Initial weights: a state dict file, a run folder or checkpoint, or the name of torchvision weights such as
        "DEFAULT"; see `load_weights`. None initializes randomly.
"""


def _factory(name: str) -> Callable[..., nn.Module]:
    def build(*, in_channels: int = 3, weights: str | None = None) -> nn.Module:
        return torchvision_net(name, in_channels=in_channels, weights=weights)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{name} of torchvision, without its classifier; see `torchvision_net`.\n\n{_ARGUMENTS}"
    return build


for _name in NAMES:
    if not hasattr(resnet, _name):  # the ResNets are registered in `resnet.py`, with a choice of stem
        BACKBONES.register(_name)(_factory(_name))
