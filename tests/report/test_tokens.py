"""Attention maps and patch tokens of a vision transformer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ssl_lib.backbones.vit import VisionTransformer
from ssl_lib.data import ArrayData
from ssl_lib.report.observation import cls_attention, token_maps
from ssl_lib.report.records import Missing
from tests.conftest import TinyBackbone


def transformer(registers=0, depth=3):
    torch.manual_seed(0)
    net = VisionTransformer(128, depth, patch_size=4, image_size=16, in_channels=1, registers=registers).eval()
    for parameter in net.blocks[2].attn.parameters():  # by default, the attention is nearly uniform
        nn.init.normal_(parameter, std=0.3)
    return net


@pytest.mark.parametrize("registers", [0, 3])
def test_cls_attention_matches_the_softmax_in_the_last_block(registers):
    net = transformer(registers)
    images = torch.randn(2, 1, 16, 16)
    weights, tokens = cls_attention(net, images)
    inputs = []
    handle = net.blocks[2].register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad():
        assert torch.equal(tokens, net.tokens(images)[1])
        normed = net.blocks[2].norm1(inputs[0]).double().numpy()
    handle.remove()
    weight, bias = net.blocks[2].attn.qkv.weight.double().detach().numpy(), net.blocks[2].attn.qkv.bias.double()
    qkv = normed @ weight.T + bias.detach().numpy()
    for image in range(2):
        for head in range(2):
            query = qkv[image, 0, 64 * head : 64 * head + 64]
            keys = qkv[image, :, 128 + 64 * head : 128 + 64 * head + 64]
            exponentials = np.exp(keys @ query / 8)
            expected = (exponentials / exponentials.sum())[1 + registers :]
            assert np.allclose(weights[image, head].detach(), expected, atol=1e-5)
            assert expected.max() > 1.5 / len(expected)
    assert not net.blocks[2].attn.qkv._forward_hooks


def test_token_maps_have_the_grid_size_and_a_white_brightest_patch():
    sample = ArrayData(
        torch.randint(256, (9, 1, 16, 16), dtype=torch.uint8), torch.arange(9) % 3, mean=(0.5,), std=(0.5,)
    )
    result = token_maps({"trained": transformer()}, sample, torch.device("cpu"))
    assert result.names == ["class 0", "class 1", "class 2"]
    assert torch.equal(torch.stack(result.images), sample.gather(torch.arange(3)))
    colors, attention = result.columns["patch tokens, trained"], result.columns["attention, trained"]
    assert [each.shape for each in colors] == [(3, 4, 4)] * 3 and [each.shape for each in attention] == [(1, 4, 4)] * 3
    assert [int(each.max()) for each in attention] == [255] * 3
    other = token_maps({"random init": transformer(), "trained": TinyBackbone()}, sample, torch.device("cpu"))
    assert isinstance(other, Missing) and "no patch tokens" in other.reason
