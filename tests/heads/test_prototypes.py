"""Prototypes compared with torch's weight normalization."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ssl_lib.heads import Prototypes


@pytest.mark.parametrize("free_scale", [False, True])
def test_output_and_gradient_equal_weight_norm(free_scale: bool) -> None:
    torch.manual_seed(0)
    layer = Prototypes(5, 7, free_scale=free_scale).double()
    reference = weight_norm(nn.Linear(5, 7, bias=False, dtype=torch.float64))
    scale, direction = reference.parametrizations.weight.original0, reference.parametrizations.weight.original1
    with torch.no_grad():
        direction.copy_(layer.weight)
        scale.fill_(1.0)
        if free_scale:
            scale.copy_(torch.linspace(0.5, 2, 7)[:, None])
            layer.scale.copy_(scale)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    mix = torch.randn(4, 7, dtype=torch.float64)
    actual, expected = layer(x), reference(F.normalize(x, dim=-1))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    expected_gradients = torch.autograd.grad((expected * mix).sum(), (x, direction, scale))
    inputs = (x, layer.weight, layer.scale) if free_scale else (x, layer.weight)
    gradients = torch.autograd.grad((actual * mix).sum(), inputs)
    torch.testing.assert_close(gradients, expected_gradients[: len(inputs)], rtol=1e-10, atol=1e-12)


def test_initialized_like_a_linear_layer_with_unit_norms() -> None:
    torch.manual_seed(0)
    layer = Prototypes(9, 2000, free_scale=True)
    torch.manual_seed(0)
    expected = nn.Linear(9, 2000, bias=False).weight
    torch.testing.assert_close(layer.weight, expected)
    assert (layer.scale == 1).all()


def test_scores_are_cosine_similarities() -> None:
    torch.manual_seed(0)
    layer = Prototypes(5, 7)
    scores = layer(100 * layer.weight)
    assert scores.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(scores.diagonal(), torch.ones(7))


@pytest.mark.parametrize(("free_scale", "names"), [(False, ["weight"]), (True, ["weight", "scale"])])
def test_every_parameter_has_a_gradient(free_scale: bool, names: list[str]) -> None:
    torch.manual_seed(0)
    layer = Prototypes(5, 7, free_scale=free_scale)
    layer(torch.randn(4, 5)).square().sum().backward()
    assert [name for name, _ in layer.named_parameters()] == names
    assert all(p.requires_grad and p.ndim == 2 and (p.grad != 0).any() for p in layer.parameters())
    copy.deepcopy(layer).load_state_dict(layer.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_zero_row_gives_zero_scores_and_finite_gradient(dtype: torch.dtype) -> None:
    layer = Prototypes(5, 7).to(dtype)
    x = torch.zeros(2, 5, dtype=dtype, requires_grad=True)
    scores = layer(x)
    scores.sum().backward()
    assert (scores == 0).all() and layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("widths", [(0, 7), (5, 0), (-1, 3)])
def test_bad_widths_raise(widths: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"must be positive, got {widths[0]} and {widths[1]}"):
        Prototypes(*widths)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scores_do_not_depend_on_the_scale(scale: float) -> None:
    torch.manual_seed(0)
    layer, x = Prototypes(5, 7), torch.randn(4, 5)
    expected = layer(x)
    torch.testing.assert_close(layer(scale * x), expected, rtol=0, atol=1e-6)
    with torch.no_grad():
        layer.weight.mul_(scale)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-6)
