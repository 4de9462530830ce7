"""Finds the equivalent torchvision or timm network, which computes the same features from the same weights."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from ssl_lib.backbones import ResNet, VisionTransformer
from ssl_lib.backbones.torchvision import NAMES
from ssl_lib.experiment.trained_backbone import TrainedBackbone

__all__ = ["Peer", "at_image_size", "cpu_state_dict", "timm_peer", "torchvision_peer"]

_TIMM_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")
_TIMM_VITS = {192: "vit_tiny_patch16_224", 384: "vit_small_patch16_224", 768: "vit_base_patch16_224"}


@dataclass(frozen=True)
class Peer:
    """Another library's equivalent network, with the Python code that builds it.

    Attributes:
        library: The module to import.
        architecture: The library's name for the network.
        call: Expression that builds the network.
        options: Keyword arguments of `call`, without the classifier's.
        state: The weights under the library's keys.
        before: Lines that modify the network `net` before the weights are loaded, if its stem differs.
        after: Lines that remove the classifier of `net` after the weights are loaded, if the file has none.
    """

    library: str
    architecture: str
    call: str
    options: Mapping[str, Any]
    state: Mapping[str, Tensor]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def load(self, file: str) -> str:
        """Returns Python code that builds `net` and loads the weights; `file` is a string literal."""
        note = ["# strict=False because the file has no classifier"] if self.after else []
        strict = ", strict=False" if self.after else ""
        loading = f"net.load_state_dict(torch.load({file}, weights_only=True){strict})"
        return "\n".join([f"net = {self.call}", *self.before, *note, loading, *self.after])


def torchvision_peer(backbone: TrainedBackbone) -> Peer:
    """Returns torchvision's classifier of the same name, with lines that replace its stem if the stems differ.

    Raises:
        ValueError: torchvision has no such network.
    """
    name, net = backbone.name, backbone.net
    if name not in NAMES:
        raise ValueError(f"torchvision has no network {name or type(net).__name__}")
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, weights=None)
    head, classifier = list(theirs.named_children())[-1]
    kept = len(list(getattr(net, head, nn.Sequential()).children())) if isinstance(classifier, nn.Sequential) else 0
    after = f"net.{head} = " + (f"net.{head}[:{kept}]" if kept else "torch.nn.Identity()")
    call = f"torchvision.models.{name}()"
    before = _stem_changes(net, theirs)
    return Peer("torchvision", name, call, {}, cpu_state_dict(net), before, (after,))


def timm_peer(backbone: TrainedBackbone) -> Peer:
    """Returns timm's equivalent of a timm backbone or of an ssl_lib ResNet or vision transformer, without classifier.

    Raises:
        ValueError: timm has no equivalent network.
    """
    backbone = at_image_size(backbone)
    architecture, options, state, before = _in_timm(backbone.net, backbone)
    arguments = ", ".join([f'"{architecture}"', "num_classes=0", *(f"{k}={v!r}" for k, v in options.items())])
    return Peer("timm", architecture, f"timm.create_model({arguments})", options, state, before)


_InTimm = tuple[str, dict[str, Any], dict[str, Tensor], tuple[str, ...]]
"""timm's name for the network, its options, the weights under timm's keys, and lines that modify the network."""


@functools.singledispatch
def _in_timm(net: nn.Module, backbone: TrainedBackbone) -> _InTimm:
    family, _, architecture = backbone.name.partition("/")
    if family != "timm" or not architecture:
        raise ValueError(f"timm has no network with the keys of {backbone.name or type(net).__name__}")
    fixed = getattr(net, "pretrained_cfg", {}).get("fixed_input_size")
    options = {
        **_different(in_chans=(backbone.preprocessing.channels, 3)),
        **_different(img_size=(backbone.arguments.get("image_size") if fixed else None, None)),
    }
    return architecture, options, cpu_state_dict(net), ()


@_in_timm.register
def _(net: ResNet, backbone: TrainedBackbone) -> _InTimm:
    name = backbone.name
    if name not in _TIMM_RESNETS:
        raise ValueError(f"timm has no network {name or 'like this ResNet'}")
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, weights=None)  # timm has the same stem
    channels = backbone.preprocessing.channels
    return name, _different(in_chans=(channels, 3)), cpu_state_dict(net), _stem_changes(net, theirs, channels)


@_in_timm.register
def _(net: VisionTransformer, backbone: TrainedBackbone) -> _InTimm:
    registers = 0 if net.reg_token is None else net.reg_token.shape[1]
    state = cpu_state_dict(net)
    cls, patches = state["pos_embed"].split((1, state["pos_embed"].shape[1] - 1), dim=1)
    state["pos_embed"] = torch.cat((cls, cls.new_zeros(1, registers, net.out_dim), patches), dim=1)
    known = net.out_dim in _TIMM_VITS
    options = _different(
        embed_dim=(net.out_dim, net.out_dim if known else 192),
        num_heads=(net.out_dim // 64, net.out_dim // 64 if known else 3),
        depth=(len(net.blocks), 12),
        patch_size=(net.patch_size, 16),
        img_size=(net.grid[0] * net.patch_size, 224),
        reg_tokens=(registers, 0),
        in_chans=(backbone.preprocessing.channels, 3),
    )
    return _TIMM_VITS.get(net.out_dim, _TIMM_VITS[192]), options, state, ()


def at_image_size(backbone: TrainedBackbone) -> TrainedBackbone:
    """Resizes a vision transformer's position embeddings to `backbone.size`; returns other backbones unchanged.

    Libraries interpolate position embeddings differently. After this, none of them needs to interpolate.
    """
    if not isinstance(backbone.net, VisionTransformer):
        return backbone
    return TrainedBackbone(
        backbone.net.at_size(backbone.size),
        backbone.preprocessing,
        name=backbone.name,
        arguments={**backbone.arguments, "image_size": backbone.size},
        part=backbone.part,
        origin=backbone.origin,
    )


def cpu_state_dict(net: nn.Module) -> dict[str, Tensor]:
    """Returns a contiguous copy of the weights on the CPU, without shared memory."""
    return {
        key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, value in net.state_dict().items()
    }


def _stem_changes(net: nn.Module, theirs: nn.Module, channels: int | None = None) -> tuple[str, ...]:
    """Returns lines that replace the stem of another library's network by the stem of `net`.

    `channels` are the input channels that the library's constructor sets, so that no line needs to.
    """
    name, conv = _first_convolution(net)
    _, other = _first_convolution(theirs)
    if channels is not None:
        other.in_channels = channels
    lines = [] if repr(conv) == repr(other) else [f'net.set_submodule("{name}", torch.nn.{conv!r})']
    if hasattr(theirs, "maxpool") and not hasattr(net, "maxpool"):
        lines.append("net.maxpool = torch.nn.Identity()")
    return tuple(lines)


def _first_convolution(net: nn.Module) -> tuple[str, nn.Conv2d]:
    return next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))


def _different(**options: tuple[Any, Any]) -> dict[str, Any]:
    """Returns the options whose value differs from the default, from (value, default) pairs."""
    return {name: value for name, (value, default) in options.items() if value != default}
