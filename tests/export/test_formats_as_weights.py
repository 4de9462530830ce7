"""Exported files as pretrained weights of a new backbone."""

from __future__ import annotations

import json

import pytest
import torch

from ssl_lib import ConfigError, backbones, build, load_config
from ssl_lib.export import FORMATS, export
from tests.export.helper import SMALL_STEM, TIMM_RESNET, TINY, VIT, backbone, batch, skip_without_packages


@pytest.mark.parametrize(
    ("to", "name", "arguments"),
    [
        ("safetensors", *TINY),
        ("torchvision", *SMALL_STEM),
        ("timm", *SMALL_STEM),
        ("timm", *VIT),
        ("timm", *TIMM_RESNET),
    ],
    ids=lambda value: str(value)[:20],
)
def test_new_run_starts_from_an_export(to, name, arguments, tmp_path):
    skip_without_packages(to, name)
    model = backbone(name, **arguments)
    path = tmp_path / FORMATS[to].file
    export(model, to, path)
    if name.startswith("timm/"):
        fresh = backbones.timm_backbone("resnet10t", in_channels=1, weights=str(path))
    else:
        config = tmp_path / "warm.yaml"
        content = {
            "data": "fashion_mnist_mini",
            "backbone": {"name": name, **model.arguments, "weights": str(path)},
            "method": {"name": "simclr", "hidden_dim": 8},
            "views": {"preset": "simclr", "size": model.size},
            "optimizer": {"name": "sgd", "lr": 0.1},
            "trainer": {"batch_size": 8, "device": "cpu"},
            "evaluation": {"knn": None, "linear": None},
            "run_dir": str(tmp_path / "run"),
        }
        config.write_text(json.dumps(content))
        fresh = build(load_config(config)).method.backbone.eval()
    images = batch(model)
    torch.testing.assert_close(fresh.eval()(images), model(images), rtol=1e-5, atol=1e-5)


def test_position_embeddings_of_timm_registers_are_loaded(tmp_path):
    """A vision transformer of timm whose registers have position embeddings."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    options = {"embed_dim": 128, "depth": 4, "num_heads": 2, "patch_size": 4, "img_size": 12, "reg_tokens": 3}
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0, **options).eval()
    assert theirs.pos_embed.shape[1] == 1 + 3 + 9
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = backbones.vit_micro(image_size=12, registers=3, weights=str(tmp_path / "timm.pth")).eval()
    images = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64])
def test_damaged_safetensors_file_error_names_the_file(content, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read .*damaged\.safetensors"):
        backbones.resnet_tiny(weights=str(path))
