"""Properties of every registered backbone; large ones are checked on the meta device to save memory."""

from __future__ import annotations

import copy
import inspect
import typing
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

import ssl_lib.backbones
from ssl_lib.registry import BACKBONES

NAMES = [name for name in BACKBONES if not name.endswith("/*")]
# The smallest backbone of each family. The others differ in depth and width and are tested with `-m slow`.
SMALLEST = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "resnet50",
    "resnet_tiny",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vit_b_32",
    "vit_micro",
    "vit_tiny",
    "wide_resnet50_2",
]


@contextmanager
def meta_parameters() -> Iterator[None]:
    """Moves each parameter to the meta device before it is initialized."""
    hook = register_module_parameter_registration_hook(
        lambda module, name, parameter: nn.Parameter(parameter.to("meta"), parameter.requires_grad)
    )
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SMALLEST else pytest.mark.slow) for name in NAMES]
)
def test_out_dim_is_the_feature_width_and_every_parameter_gets_a_gradient(name: str) -> None:
    with meta_parameters():
        net = BACKBONES[name](in_channels=5).to("meta")
    features = net(torch.empty(2, 5, 224, 224, device="meta"))
    assert type(net.out_dim) is int
    assert features.shape == (2, net.out_dim)
    features.sum().backward()
    assert [key for key, parameter in net.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", ["resnet18", "resnet_tiny", "vit_micro", "mobilenet_v3_small"])
def test_any_number_of_channels_is_supported(name: str, channels: int) -> None:
    torch.manual_seed(0)
    net = BACKBONES[name](in_channels=channels)
    features = net(torch.randn(4, channels, 32, 32))
    assert features.shape == (4, net.out_dim)
    assert features.isfinite().all()
    assert features.std() > 0


@pytest.mark.parametrize("name", list(BACKBONES))
def test_arguments_are_keyword_only_with_types_and_plain_defaults(name: str) -> None:
    build = BACKBONES[name.replace("*", "any")]
    hints = typing.get_type_hints(getattr(build, "func", build))
    for argument, parameter in inspect.signature(build).parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert argument in hints
        assert isinstance(parameter.default, int | float | str | None)


def test_public_and_registered_names_exist() -> None:
    assert all(hasattr(ssl_lib.backbones, name) for name in ssl_lib.backbones.__all__)
    assert {"convnext_tiny", "regnet_y_400mf", "efficientnet_v2_s", "swin_t", "densenet121"} <= set(NAMES)
    assert set(SMALLEST) <= set(NAMES)


@pytest.mark.parametrize("name", ["resnet_tiny", "vit_micro", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_copies_and_channels_last_give_the_same_features(name: str) -> None:
    torch.manual_seed(0)
    net = BACKBONES[name]().eval()
    images = torch.randn(2, 3, 32, 32)
    expected = net(images)
    twin = copy.deepcopy(net).to(memory_format=torch.channels_last)
    assert twin.out_dim == net.out_dim
    with torch.no_grad():
        next(net.parameters()).add_(1.0)
    torch.testing.assert_close(twin(images.contiguous(memory_format=torch.channels_last)), expected)
