"""Vision transformer compared with its definition in numpy and with timm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ssl_lib.backbones import VisionTransformer, vit_base, vit_micro, vit_small, vit_tiny

Array = NDArray[np.float64]


def randomize(net: nn.Module) -> nn.Module:
    """Adds noise to every parameter, including norms and biases."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6) * weight + bias


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def numpy_vit(state: dict[str, Array], image: Array, patch: int, positions: Array, depth: int) -> Array:
    """All tokens of one image (C, H, W) by definition: CLS, registers, patches."""
    c, h, w = image.shape
    patches = image.reshape(c, h // patch, patch, w // patch, patch).transpose(1, 3, 0, 2, 4)
    kernel = state["patch_embed.proj.weight"]
    x = patches.reshape(-1, c * patch * patch) @ kernel.reshape(len(kernel), -1).T + state["patch_embed.proj.bias"]
    cls = state["cls_token"][0] + positions[:1]
    x = np.concatenate([cls, state["reg_token"][0], x + positions[1:]])
    for i in range(depth):
        p = {key.removeprefix(f"blocks.{i}."): value for key, value in state.items()}
        qkv = layer_norm(x, p["norm1.weight"], p["norm1.bias"]) @ p["attn.qkv.weight"].T + p["attn.qkv.bias"]
        heads = []
        for q, k, v in zip(
            *(np.split(part, x.shape[1] // 64, axis=1) for part in np.split(qkv, 3, axis=1)), strict=True
        ):
            score = np.exp(q @ k.T / 8.0)
            heads.append(score / score.sum(1, keepdims=True) @ v)
        x = x + np.concatenate(heads, axis=1) @ p["attn.proj.weight"].T + p["attn.proj.bias"]
        hidden = layer_norm(x, p["norm2.weight"], p["norm2.bias"]) @ p["mlp.fc1.weight"].T + p["mlp.fc1.bias"]
        x = x + gelu(hidden) @ p["mlp.fc2.weight"].T + p["mlp.fc2.bias"]
    return layer_norm(x, state["norm.weight"], state["norm.bias"])


def bicubic_matrix(old: int, new: int) -> Array:
    """Bicubic weights (a = -0.75, edges repeated), with 0.1 added to the new size as in DINO."""
    matrix = np.zeros((new, old))
    for row in range(new):
        center = (row + 0.5) * old / (new + 0.1) - 0.5
        for tap in range(math.floor(center) - 1, math.floor(center) + 3):
            t = abs(center - tap)
            weight = 1.25 * t**3 - 2.25 * t**2 + 1 if t <= 1 else -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
            matrix[row, min(max(tap, 0), old - 1)] += weight
    return matrix


@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 16), (8, 20), (16, 12), (32, 32)])
def test_tokens_equal_the_numpy_definition(height: int, width: int) -> None:
    torch.manual_seed(0)
    net = randomize(VisionTransformer(128, depth=2, patch_size=4, image_size=16, registers=3)).float()
    images = torch.randn(2, 3, height, width)
    state = {key: value.double().numpy() for key, value in net.state_dict().items()}
    positions = state["pos_embed"][0]
    if (height, width) != (16, 16):
        rows, columns = bicubic_matrix(4, height // 4), bicubic_matrix(4, width // 4)
        grid = np.einsum("ih,jw,hwd->ijd", rows, columns, positions[1:].reshape(4, 4, -1))
        positions = np.concatenate([positions[:1], grid.reshape(-1, 128)])
    expected = np.stack([numpy_vit(state, image.double().numpy(), 4, positions, 2) for image in images])
    cls, patches = net.tokens(images)
    np.testing.assert_allclose(cls.detach().numpy(), expected[:, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(patches.detach().numpy(), expected[:, 4:], rtol=1e-4, atol=1e-4)
    assert torch.equal(net(images), cls)


@pytest.mark.parametrize("registers", [0, 4])
def test_state_dict_and_features_equal_timm(registers: int) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, reg_tokens=registers).eval()
    if registers:  # timm adds a position embedding to registers, ssl_lib does not
        theirs.pos_embed.data[:, 1 : 1 + registers] = 0
    state = dict(theirs.state_dict())
    state["pos_embed"] = torch.cat((theirs.pos_embed[:, :1], theirs.pos_embed[:, 1 + registers :]), dim=1)
    ours = vit_tiny(image_size=64, registers=registers).eval()
    ours.load_state_dict(state)  # strict: the same names and shapes
    images = torch.randn(2, 3, 64, 64)
    expected = theirs.forward_features(images)
    cls, patches = ours.tokens(images)
    torch.testing.assert_close(cls, expected[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(patches, expected[:, 1 + registers :], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "dim", "parameters"), [(vit_tiny, 192, 5.52e6), (vit_small, 384, 21.67e6), (vit_base, 768, 85.8e6)]
)
def test_numbers_of_parameters_are_the_published_ones(build: object, dim: int, parameters: float) -> None:
    with torch.device("meta"):
        net = build()
    assert net.out_dim == dim
    assert len(net.blocks) == 12
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(parameters, rel=2e-3)


def test_initialization_equals_dino() -> None:
    torch.manual_seed(0)
    net = vit_tiny(registers=4)
    for name, parameter in net.named_parameters():
        if name.endswith("bias") and "patch_embed" not in name:
            assert not parameter.any()
        elif "norm" in name:
            assert (parameter == 1).all()
        elif name in ("cls_token", "pos_embed") or "attn" in name or "mlp" in name:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15)
    assert net.reg_token.abs().max() < 1e-5


def test_registers_do_not_change_shapes_and_have_no_position() -> None:
    torch.manual_seed(0)
    plain, net = vit_micro(), vit_micro(registers=4)
    images = torch.randn(2, 3, 28, 28)
    assert [t.shape for t in net.tokens(images)] == [t.shape for t in plain.tokens(images)] == [(2, 128), (2, 49, 128)]
    assert net.pos_embed.shape == plain.pos_embed.shape
    assert {key for key in net.state_dict() if key not in plain.state_dict()} == {"reg_token"}
    before = net(images)
    with torch.no_grad():
        net.reg_token.add_(1.0)
    assert not torch.allclose(net(images), before)


def test_drop_path_is_disabled_in_eval_mode() -> None:
    torch.manual_seed(0)
    net, plain = vit_micro(drop_path=0.5), vit_micro()
    plain.load_state_dict(net.state_dict())
    images = torch.randn(8, 3, 28, 28)
    assert torch.equal(net.eval()(images), plain(images))
    assert not torch.allclose(net.train()(images), plain(images))


def test_drop_path_increases_with_depth_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    depth, rate, count = 4, 0.6, 4000
    net = VisionTransformer(64, depth, patch_size=4, image_size=4, drop_path=rate)
    net.norm = nn.Identity()
    with torch.no_grad():
        net.cls_token.zero_(), net.pos_embed.zero_()
        for i, block in enumerate(net.blocks):  # attention of block i adds 1 to coordinate i, MLPs add 0
            for parameter in (block.attn.proj.weight, block.mlp.fc2.weight):
                parameter.zero_()
            block.attn.proj.bias[i] = 1.0
        branch = net(torch.zeros(count, 3, 4, 4))[:, :depth]  # 0 where dropped, 1 / survival where kept
    survival = torch.tensor([1 - rate * i / (depth - 1) for i in range(depth)])
    kept = branch > 0
    torch.testing.assert_close(branch, kept / survival)
    bound = 4 * (survival * (1 - survival) / count).sqrt()
    assert ((kept.float().mean(0) - survival).abs() <= bound).all()
    assert bound[1:].min() > 0 and kept[:, 0].all()


def test_masked_patches_are_replaced_by_the_mask_token() -> None:
    torch.manual_seed(0)
    net = randomize(VisionTransformer(64, depth=0, patch_size=4, image_size=16))
    images, mask_token = torch.randn(3, 3, 16, 16), torch.randn(64, requires_grad=True)
    masks = torch.rand(3, 16) < 0.5
    _, masked = net.tokens(images, masks, mask_token)
    _, plain = net.tokens(images)
    assert torch.equal(masked[~masks], plain[~masks])
    expected = net.norm(mask_token + net.pos_embed[:, 1:]).expand(3, -1, -1)
    assert torch.equal(masked[masks], expected[masks])
    masked.square().sum().backward()
    assert mask_token.grad.any()


@pytest.mark.parametrize(
    ("masks", "mask_token", "message"),
    [
        (torch.ones(2, 16, dtype=torch.bool), None, "together"),
        (None, torch.ones(64), "together"),
        (torch.ones(2, 15, dtype=torch.bool), torch.ones(64), r"bool \(2, 16\), got torch.bool \(2, 15\)"),
        (torch.ones(2, 16), torch.ones(64), r"got torch.float32 \(2, 16\)"),
    ],
)
def test_bad_masks_raise(masks: torch.Tensor | None, mask_token: torch.Tensor | None, message: str) -> None:
    net = VisionTransformer(64, depth=1, patch_size=4, image_size=16)
    with pytest.raises(ValueError, match=message):
        net.tokens(torch.zeros(2, 3, 16, 16), masks, mask_token)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 100}, "multiple of 64.* got 100"),
        ({"image_size": 30}, "30 x 30 pixels do not divide into patches of 4"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\), got 1.0"),
        ({"registers": -1}, "registers must not be negative, got -1"),
    ],
)
def test_bad_arguments_raise(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VisionTransformer(**{"dim": 64, "depth": 1, "patch_size": 4, "image_size": 16, **arguments})


@pytest.mark.parametrize(("height", "width"), [(30, 28), (28, 30), (0, 28)])
def test_image_size_not_divisible_by_patch_size_raises(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{height} x {width} pixels do not divide into patches of 4"):
        vit_micro()(torch.zeros(1, 3, height, width))
