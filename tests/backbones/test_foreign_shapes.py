"""Weights whose shapes are adapted: position embeddings of other sizes and tokens, and stems for other channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.backbones import load_weights, resnet18, resnet_tiny, timm_backbone, torchvision_net, vit_micro
from ssl_lib.errors import ConfigError


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def save(tmp_path):
    def write(content):
        torch.save(content, tmp_path / "foreign.pth")
        return str(tmp_path / "foreign.pth")

    return write


def vit(**arguments):
    """A small vision transformer whose tokens and positions are large enough to matter."""
    net = vit_micro(**arguments).eval()
    with torch.no_grad():
        for name in ("cls_token", "pos_embed", "reg_token"):
            if getattr(net, name, None) is not None:
                getattr(net, name).normal_()
    return net


@torch.no_grad()
def assert_equal_features(net, donor, size, channels=3):
    images = torch.randn(2, channels, size, size)
    torch.testing.assert_close(net.eval()(images), donor(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(32, 48), (48, 20), (28, 32)])
def test_positions_of_another_size_give_the_features_of_the_interpolating_network(old, new, save):
    donor = vit(image_size=old, registers=2)
    path = save({"teacher": {f"backbone.{key}": value for key, value in donor.state_dict().items()}})
    with pytest.warns(UserWarning, match=rf"pos_embed is interpolated from {old // 4} x {old // 4} to {new // 4} x"):
        net = vit_micro(image_size=new, registers=2, weights=path)
    assert_equal_features(net, donor, new)
    assert_equal_features(net, donor.at_size(new), new)


def timm_vit(image_size, **arguments):
    timm = pytest.importorskip("timm")
    options = {"embed_dim": 128, "depth": 4, "num_heads": 2, "patch_size": 4, "img_size": image_size, "num_classes": 0}
    net = timm.create_model("vit_tiny_patch16_224", **options, **arguments).eval()
    with torch.no_grad():
        for name in ("cls_token", "pos_embed", "reg_token"):
            if getattr(net, name) is not None:
                getattr(net, name).normal_()
    return net


@pytest.mark.parametrize("embed_class", [True, False])
@pytest.mark.parametrize("registers", [0, 3])
def test_positions_of_tokens_are_added_to_the_tokens(embed_class, registers, save):
    """timm's vision transformers have positions for class and registers, for all tokens or for patches only."""
    donor = vit(image_size=16, registers=registers)
    theirs = timm_vit(16, reg_tokens=registers, no_embed_class=not embed_class)
    if embed_class:  # to the library's network, which has no positions of registers
        net = vit_micro(image_size=16, registers=registers, weights=save(theirs.state_dict()))
        assert_equal_features(net, theirs, 16)
    else:  # from it: as timm converts DINOv2's weights
        before = {key: value.clone() for key, value in donor.state_dict().items()}
        load_weights(theirs, save(donor.state_dict()))
        assert_equal_features(theirs, donor, 16)
        assert all(torch.equal(value, before[key]) for key, value in donor.state_dict().items())


def test_positions_of_tokens_and_size_may_both_differ(save):
    donor = vit(image_size=24, registers=3)
    theirs = timm_vit(16, reg_tokens=3, no_embed_class=True)
    with pytest.warns(UserWarning, match="from 6 x 6 to 4 x 4"):
        load_weights(theirs, save(donor.state_dict()))
    assert_equal_features(theirs, donor, 16)


@pytest.mark.parametrize(
    ("arguments", "positions", "message"),
    [
        ({"image_size": 16}, (1, 1 + 6, 128), r"pos_embed \(1, 7, 128\) instead of \(1, 17, 128\)"),
        ({"image_size": 16}, (1, 25, 128), r"pos_embed \(1, 25, 128\) instead"),  # no position of the class token
        ({"image_size": 16}, (25, 128), r"pos_embed \(25, 128\) instead"),
        ({"image_size": 16, "patch_size": 8}, (1, 17, 128), r"patch_embed\.proj\.weight \(128, 3, 4, 4\) instead"),
        ({"image_size": 16, "registers": 2}, (1, 10, 128), "missing: reg_token"),
    ],
)
def test_positions_that_do_not_fit_are_refused(arguments, positions, message, save):
    state = vit(image_size=16).state_dict() | {"pos_embed": torch.zeros(positions)}
    with pytest.raises(ConfigError, match=message):
        vit_micro(**arguments, weights=save(state))


@pytest.mark.parametrize("build", [resnet18, resnet_tiny, vit_micro, lambda **k: torchvision_net("convnext_tiny", **k)])
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_rgb_stem_is_averaged_over_its_channels(build, channels, save):
    donor = build().eval()
    path = save({"model": donor.state_dict()})
    with pytest.warns(UserWarning, match=f"made for 3 channels, is averaged over them for {channels} "):
        net = build(in_channels=channels, weights=path).eval()
    gray = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        features, expected = net(gray.expand(-1, channels, -1, -1)), donor(gray.expand(-1, 3, -1, -1))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    key = next(key for key, value in donor.state_dict().items() if value.ndim == 4)
    kernel = donor.state_dict()[key].double().numpy()
    formula = np.repeat(kernel.mean(1, keepdims=True) * 3 / channels, channels, axis=1)
    np.testing.assert_allclose(net.state_dict()[key].numpy(), formula, rtol=1e-5, atol=1e-7)


def test_stems_of_other_channels_than_three_are_refused(save):
    for own, wanted in ((1, 3), (4, 3), (5, 2)):
        with pytest.raises(ConfigError, match=rf"conv1\.weight \(24, {own}, 3, 3\) instead of \(24, {wanted}, 3, 3\)"):
            resnet_tiny(in_channels=wanted, weights=save(resnet_tiny(in_channels=own).state_dict()))


def test_timm_backbone_loads_a_file(save):
    theirs = timm_vit(16)
    state = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    timm = pytest.importorskip("timm")
    donor = timm.create_model("resnet10t", num_classes=10).eval()
    path = save({"state_dict": {f"module.{key}": value for key, value in donor.state_dict().items()}})
    donor.reset_classifier(0)
    assert_equal_features(timm_backbone("resnet10t", weights=path), donor, 64)
    with pytest.raises(ConfigError, match=r"foreign\.pth' in 'module' do not match this backbone; missing: conv1"):
        timm_backbone("resnet10t", weights=save(state))
    with pytest.raises(ConfigError, match="either pretrained: true or weights"):
        timm_backbone("resnet10t", pretrained=True, weights=path)
