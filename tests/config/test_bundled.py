"""Tests of the configs in `configs/` and `examples/`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ssl_lib import BACKBONES, METHODS
from ssl_lib.config.convert import arguments_of
from ssl_lib.config.load import load_config
from ssl_lib.config.networks import split_networks
from ssl_lib.config.resolve import resolve

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml")) + sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_config_resolves_and_its_method_builds(path):
    """Does not build the data, which may not be on this machine."""
    config = resolve(load_config(path))
    with torch.device("meta"):
        backbone = BACKBONES[config.backbone.name](**config.backbone.arguments)
        build = METHODS[config.method.name]
        values = {"num_images": 1_281_167, "num_classes": 10, "image_mean": (0.5,), "image_std": (0.25,)}
        given = {name: value for name, value in values.items() if name in arguments_of(build)}
        method, networks = split_networks(config.method)
        others = {name: BACKBONES[one.name](**{**one.arguments, "weights": None}) for name, one in networks.items()}
        build(backbone, **given, **method.arguments, **others)


def test_every_method_has_configs():
    paths = [path.relative_to(ROOT / "configs") for path in CONFIGS if "examples" not in path.parts]
    names = {path.with_suffix("").as_posix() for path in paths}
    gray, colored = ([name for name in METHODS if METHODS[name].colors is colors] for colors in (False, True))
    published = ["simclr", "byol", "simsiam", "barlow_twins", "vicreg", "dino", "moco_v3", "nnclr", "ressl", *colored]
    assert {f"fashion_mnist/{method}" for method in gray} | {f"cifar10/{method}" for method in published} <= names
    assert {"quickstart", "imagenet/simclr", "imagenet/dino"} <= names
