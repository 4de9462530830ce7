"""The MLP builder creates the heads of the reference implementations, layer by layer."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from ssl_lib.heads import mlp

# Each layer: (in, out, bias) of a Linear, (width, affine) of a BatchNorm, or the class of the activation.
HEADS: dict[str, tuple[list[int], dict[str, Any], list[Any]]] = {
    "simclr": (
        [16, 16, 16, 8],
        {"bias": False, "last_bias": False, "last_norm": "scale", "init_std": 0.01},
        [(16, 16, False), (16, True), nn.ReLU, (16, 16, False), (16, True), nn.ReLU, (16, 8, False), (8, True)],
    ),
    "byol": ([16, 32, 8], {"last_bias": False}, [(16, 32, True), (32, True), nn.ReLU, (32, 8, False)]),
    "simsiam projector": (
        [16, 16, 16, 12],
        {"bias": False, "last_bias": False, "last_norm": "plain"},
        [(16, 16, False), (16, True), nn.ReLU, (16, 16, False), (16, True), nn.ReLU, (16, 12, False), (12, False)],
    ),
    "simsiam predictor": ([12, 4, 12], {"bias": False}, [(12, 4, False), (4, True), nn.ReLU, (4, 12, True)]),
    "barlow twins": (
        [16, 32, 32, 32],
        {"bias": False, "last_bias": False},
        [(16, 32, False), (32, True), nn.ReLU, (32, 32, False), (32, True), nn.ReLU, (32, 32, False)],
    ),
    "vicreg": (
        [16, 32, 32, 32],
        {"last_bias": False},
        [(16, 32, True), (32, True), nn.ReLU, (32, 32, True), (32, True), nn.ReLU, (32, 32, False)],
    ),
    "dino": (
        [16, 32, 32, 8],
        {"activation": "gelu", "norm": False, "init_std": 0.02},
        [(16, 32, True), nn.GELU, (32, 32, True), nn.GELU, (32, 8, True)],
    ),
}
every_head = pytest.mark.parametrize("name", HEADS)


def build(name: str) -> nn.Sequential:
    dims, arguments, _ = HEADS[name]
    return mlp(dims, **arguments)


def describe(layer: nn.Module) -> Any:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features, layer.bias is not None
    if isinstance(layer, nn.BatchNorm1d):
        return layer.num_features, layer.affine
    return type(layer)


@every_head
def test_layers_match_the_reference(name: str) -> None:
    assert [describe(layer) for layer in build(name)] == HEADS[name][2]


@every_head
def test_batch_norms_use_torch_defaults(name: str) -> None:
    for layer in build(name):
        if isinstance(layer, nn.BatchNorm1d):
            assert (layer.eps, layer.momentum, layer.track_running_stats) == (1e-5, 0.1, True)


@every_head
def test_every_trainable_parameter_has_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    head = build(name)
    head(torch.randn(6, HEADS[name][0][0])).square().mul(torch.linspace(0, 1, HEADS[name][0][-1])).sum().backward()
    for key, parameter in head.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and (parameter.grad != 0).any(), key
        else:
            assert (name, key) == ("simclr", "7.bias")


@pytest.mark.parametrize(("name", "std"), [("simclr", 0.01), ("dino", 0.02)])
def test_init_std_gives_normal_weights_and_zero_biases(name: str, std: float) -> None:
    torch.manual_seed(0)
    _, arguments, _ = HEADS[name]
    for layer in mlp([300, 300, 300], **arguments):
        if isinstance(layer, nn.Linear):
            weights = layer.weight.detach().flatten() / std
            assert abs(weights.mean()) < 0.02 and abs(weights.std() - 1) < 0.02
            assert abs((weights.abs() < 1).float().mean() - 0.6827) < 0.01  # normal, not uniform
            assert layer.bias is None or (layer.bias == 0).all()


def test_default_initialization_is_torchs() -> None:
    torch.manual_seed(0)
    head = mlp([5, 4, 3], norm=False)
    torch.manual_seed(0)
    for layer in (head[0], head[2]):
        expected = nn.Linear(layer.in_features, layer.out_features)
        assert torch.equal(layer.weight, expected.weight) and torch.equal(layer.bias, expected.bias)


def test_last_norm_scale_trains_the_scale_only() -> None:
    torch.manual_seed(0)
    head = mlp([5, 4], last_bias=False, last_norm="scale")
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=1.0)
    head(torch.randn(6, 5)).square().sum().backward()
    head(torch.randn(6, 5)).exp().sum().backward()
    optimizer.step()
    assert (head[1].bias == 0).all() and (head[1].weight != 1).all()
    out = head(torch.randn(6, 5))
    torch.testing.assert_close(out.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std(0, correction=0), head[1].weight.abs(), rtol=1e-3, atol=1e-3)


def test_last_norm_scale_survives_copy_state_dict_and_sync_batchnorm() -> None:
    head = mlp([5, 4], last_norm="scale")
    for twin in (copy.deepcopy(head), nn.SyncBatchNorm.convert_sync_batchnorm(mlp([5, 4], last_norm="scale"))):
        twin.load_state_dict(head.state_dict())
        assert not twin[1].bias.requires_grad and twin[1].weight.requires_grad and (twin[1].bias == 0).all()


def test_two_widths_give_one_linear_layer() -> None:
    assert [describe(layer) for layer in mlp([5, 4])] == [(5, 4, True)]
    assert [describe(layer) for layer in mlp([5, 4], last_norm="affine")] == [(5, 4, True), (4, True)]


@pytest.mark.parametrize(
    ("dims", "arguments", "message"),
    [
        ([5], {}, r"at least two positive widths.*\[5\]"),
        ([], {}, r"at least two positive widths.*\[\]"),
        ([5, 0, 3], {}, r"positive widths.*\[5, 0, 3\]"),
        ([5, 3], {"activation": "swish"}, "one of relu, gelu, got 'swish'"),
        ([5, 3], {"last_norm": "batch"}, "one of none, affine, scale, plain, got 'batch'"),
        ([5, 3], {"init_std": 0.0}, "init_std must be positive.*got 0.0"),
        ([5, 3], {"init_std": float("nan")}, "init_std must be positive.*got nan"),
    ],
)
def test_bad_arguments_raise(dims: list[int], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mlp(dims, **arguments)
