"""The networks of torchvision and timm that give the same features from the same weights."""

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

__all__ = ["Peer", "at_its_size", "plain_state", "timm_peer", "torchvision_peer"]

_TIMM_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")
_TIMM_VITS = {192: "vit_tiny_patch16_224", 384: "vit_small_patch16_224", 768: "vit_base_patch16_224"}


@dataclass(frozen=True)
class Peer:
    """Another library's network, as Python.

    Attributes:
        library: To import.
        architecture: The library's name of the network.
        call: Builds it.
        options: Of that call, without those about the classifier.
        state: The weights, under the library's keys.
        before: Lines that change the network `net` before it takes the weights, where it has another stem.
        after: Lines behind that.
        strict: Whether the file holds every key of the network; a classifier's are missing else.
    """

    library: str
    architecture: str
    call: str
    options: Mapping[str, Any]
    state: Mapping[str, Tensor]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    strict: bool = True

    def load(self, file: str) -> str:
        """Python that makes `net` from the weights in a file, whose name is a literal."""
        loading = f"net.load_state_dict(torch.load({file}, weights_only=True)"
        note = () if self.strict else ("# without the classifier, which is not in the file",)
        loading += ")" if self.strict else ", strict=False)"
        return "\n".join([f"net = {self.call}", *self.before, *note, loading, *self.after])


def torchvision_peer(backbone: TrainedBackbone) -> Peer:
    """The classifier of torchvision of the same name; where its stem is another one, with lines that change it.

    Raises:
        ValueError: torchvision has none.
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
    return Peer("torchvision", name, call, {}, plain_state(net), before, (after,), strict=False)


def timm_peer(backbone: TrainedBackbone) -> Peer:
    """The network of timm, without classifier: of our ResNets and vision transformers, and of its own.

    Raises:
        ValueError: There is none.
    """
    backbone = at_its_size(backbone)
    architecture, options, state, before = _in_timm(backbone.net, backbone)
    arguments = ", ".join([f'"{architecture}"', "num_classes=0", *(f"{k}={v!r}" for k, v in options.items())])
    return Peer("timm", architecture, f"timm.create_model({arguments})", options, state, before)


_InTimm = tuple[str, dict[str, Any], dict[str, Tensor], tuple[str, ...]]
"""timm's name, its options, the weights under its keys, and lines that change the network."""


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
    return architecture, options, plain_state(net), ()


@_in_timm.register
def _(net: ResNet, backbone: TrainedBackbone) -> _InTimm:
    name = backbone.name
    if name not in _TIMM_RESNETS:
        raise ValueError(f"timm has no network {name or 'like this ResNet'}")
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, weights=None)  # the stem of which is timm's
    channels = backbone.preprocessing.channels
    return name, _different(in_chans=(channels, 3)), plain_state(net), _stem_changes(net, theirs, channels)


@_in_timm.register
def _(net: VisionTransformer, backbone: TrainedBackbone) -> _InTimm:
    registers = 0 if net.reg_token is None else net.reg_token.shape[1]
    state = plain_state(net)
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


def at_its_size(backbone: TrainedBackbone) -> TrainedBackbone:
    """The backbone with position embeddings of its own image size, where a vision transformer was built for another.

    Libraries interpolate them each in their way; after this there is nothing to interpolate.
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


def plain_state(net: nn.Module) -> dict[str, Tensor]:
    """The weights on the CPU, each in memory of its own."""
    return {
        key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, value in net.state_dict().items()
    }


def _stem_changes(net: nn.Module, theirs: nn.Module, channels: int | None = None) -> tuple[str, ...]:
    """Lines that give another library's network the stem of ours; `channels` it can be told of otherwise."""
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
    """The options whose value is not the default."""
    return {name: value for name, (value, default) in options.items() if value != default}
