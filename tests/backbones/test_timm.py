"""timm backbones compared with timm."""

from __future__ import annotations

import sys

import pytest
import torch

from ssl_lib.backbones import timm_backbone
from ssl_lib.errors import ConfigError
from ssl_lib.registry import BACKBONES


def test_message_without_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(ConfigError, match="needs timm: pip install timm"):
        timm_backbone("resnet18")


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto"])
def test_features_equal_timm_before_the_classifier(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    ours = BACKBONES[f"timm/{name}"](in_channels=1, image_size=32, drop_path=0.1).eval()
    size = {"img_size": 32} if "vit" in name else {}
    theirs = timm.create_model(name, in_chans=1, **size).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    images = torch.randn(2, 1, 32, 32)
    expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
    features = ours(images)
    assert features.shape == (2, ours.out_dim)
    torch.testing.assert_close(features, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet51", {}, "timm has no model 'resnet51'. Did you mean 'resnet"),
        ("vgg11", {"drop_path": 0.1}, "timm cannot build 'vgg11' with .*'drop_path': 0.1"),
        ("resnet18.no_such_tag", {"pretrained": True}, "timm cannot build 'resnet18.no_such_tag'"),
    ],
)
def test_unknown_models_options_and_tags_raise(name: str, arguments: dict[str, object], message: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match=message):
        timm_backbone(name, **arguments)
