"""ResNet backbones compared with torchvision."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

from ssl_lib import backbones
from ssl_lib.backbones import ResNet, resnet18, resnet50, resnet_tiny

NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2"]


def reference(name: str) -> nn.Module:
    net = torchvision.models.get_model(name, weights=None)
    net.fc = nn.Identity()
    return net


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_keys_equal_torchvision_without_fc(name: str) -> None:
    with torch.device("meta"):
        expected, actual = reference(name).state_dict(), getattr(backbones, name)().state_dict()
    assert [(key, value.shape) for key, value in actual.items()] == [(k, v.shape) for k, v in expected.items()]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_equal_torchvision(name: str) -> None:
    torch.manual_seed(0)
    theirs, ours = reference(name), getattr(backbones, name)()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(3, 3, 48, 48)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)  # batch statistics
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=0, atol=0)  # running statistics


def test_small_stem_equals_torchvision_with_its_stem_replaced() -> None:
    torch.manual_seed(0)
    theirs, ours = reference("resnet18"), resnet18(in_channels=1, stem="small")
    theirs.conv1, theirs.maxpool = nn.Conv2d(1, 64, 3, 1, 1, bias=False), nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("stem", "sides"), [("imagenet", [8, 4, 2, 1]), ("half", [16, 8, 4, 2]), ("small", [32, 16, 8, 4])]
)
def test_stem_determines_the_resolution_of_every_stage(stem: str, sides: list[int]) -> None:
    net = ResNet(BasicBlock, (1, 1, 1, 1), widths=(8, 8, 8, 8), stem=stem).eval()
    x, actual = torch.randn(1, 3, 32, 32), []
    for name, module in net.named_children():
        x = module(x)
        if name.startswith("layer"):
            actual.append(x.shape[2])
    assert actual == sides


def test_convolutions_are_initialized_as_in_torchvision() -> None:
    torch.manual_seed(0)
    weight = resnet18(in_channels=5).layer4[1].conv2.weight  # kaiming normal over the fan out, 512 * 9
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize("build", [resnet18, resnet50, resnet_tiny])
def test_zero_init_residual_makes_each_branch_output_zero(build: object) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    for zero in (False, True):
        net = build(zero_init_residual=zero).eval()
        block = net.layer1[0]
        h = torch.relu(net.bn1(net.conv1(x)))
        shortcut = block.downsample(h) if block.downsample else h
        assert torch.equal(block(h), torch.relu(shortcut)) == zero


def test_resnet_tiny_has_the_documented_size_and_width() -> None:
    assert 0.25e6 < sum(parameter.numel() for parameter in resnet_tiny().parameters()) < 0.35e6
    assert resnet_tiny(width=48).out_dim == 2 * resnet_tiny(width=24).out_dim


def test_unknown_stem_raises() -> None:
    with pytest.raises(ValueError, match="imagenet, half, small, got 'cifar'"):
        resnet18(stem="cifar")
