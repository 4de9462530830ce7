"""Backbones: networks that map images (N, C, H, W) to features (N, out_dim), registered in `BACKBONES`."""

from __future__ import annotations

from ssl_lib.backbones.frozen import Frozen
from ssl_lib.backbones.resnet import ResNet, resnet18, resnet34, resnet50, resnet101, resnet_tiny, wide_resnet50_2
from ssl_lib.backbones.timm import timm_backbone
from ssl_lib.backbones.torchvision import torchvision_net
from ssl_lib.backbones.vit import VisionTransformer, vit_base, vit_micro, vit_small, vit_tiny
from ssl_lib.backbones.weights import load_weights

__all__ = [
    "Frozen",
    "ResNet",
    "VisionTransformer",
    "load_weights",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet_tiny",
    "timm_backbone",
    "torchvision_net",
    "vit_base",
    "vit_micro",
    "vit_small",
    "vit_tiny",
    "wide_resnet50_2",
]
