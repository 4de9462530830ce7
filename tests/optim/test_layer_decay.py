"""Layer-wise learning rate decay compared with MAE, for the parameter names of several libraries."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_lib import Schedule
from ssl_lib.backbones import VisionTransformer, resnet_tiny
from ssl_lib.optim import layer_decay_groups, param_groups
from ssl_lib.types import Progress


def scales(model, decay=0.5):
    """Returns the learning rate scale of each parameter by name, and the groups."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = layer_decay_groups(model, 0.05, decay)
    return {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}, groups


def test_layers_of_a_vision_transformer_with_a_head():
    model = nn.Sequential(VisionTransformer(64, depth=3, image_size=32, registers=2), nn.Linear(64, 5))
    actual, groups = scales(model)
    expected = {"0.cls_token": 4, "0.pos_embed": 4, "0.reg_token": 4, "0.patch_embed.proj.weight": 4}
    expected |= {"0.blocks.0.attn.qkv.weight": 3, "0.blocks.1.norm1.bias": 2, "0.blocks.2.mlp.fc2.bias": 1}
    expected |= {"0.norm.weight": 0, "1.weight": 0, "1.bias": 0}
    assert {name: actual[name] for name in expected} == {name: 0.5**depth for name, depth in expected.items()}
    assert set(actual) == {name for name, _ in model.named_parameters()}
    decayed = {id(p) for group in param_groups(model, 0.05) if group["weight_decay"] for p in group["params"]}
    assert {id(p) for group in groups if group["weight_decay"] for p in group["params"]} == decayed


def test_schedule_multiplies_learning_rates_by_lr_scale():
    model = VisionTransformer(64, depth=1, image_size=32)
    optimizer = torch.optim.AdamW(layer_decay_groups(model, 0.0, 0.5), lr=1.0)
    Schedule(epochs=1).apply(optimizer, Progress(0, 10, 10))
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.25, 0.5, 1.0]


def test_torchvision_and_timm_parameter_names_are_known():
    torchvision = pytest.importorskip("torchvision.models")
    actual, _ = scales(torchvision.VisionTransformer(32, 16, 2, 2, 64, 128))
    assert actual["class_token"] == actual["conv_proj.weight"] == actual["encoder.pos_embedding"] == 1 / 8
    assert actual["encoder.layers.encoder_layer_1.mlp.0.weight"] == 1 / 2 and actual["encoder.ln.weight"] == 1
    timm = pytest.importorskip("timm")
    actual, _ = scales(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=48, num_heads=3))
    assert (actual["cls_token"], actual["blocks.1.attn.proj.weight"], actual["head.weight"]) == (1 / 8, 1 / 2, 1)


def test_networks_without_blocks_accept_only_decay_1():
    net = resnet_tiny(in_channels=1, width=8)
    assert [len(group["params"]) for group in layer_decay_groups(net, 0.1, 1.0)] == [
        len(group["params"]) for group in param_groups(net, 0.1)
    ]
    with pytest.raises(ValueError, match="layer decay needs a vision transformer"):
        layer_decay_groups(net, 0.1, 0.65)
    with pytest.raises(ValueError, match="layer decay must be in"):
        layer_decay_groups(net, 0.1, 0.0)
