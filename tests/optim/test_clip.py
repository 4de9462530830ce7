"""Per-parameter gradient clipping compared with the formula of DINO."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ssl_lib.optim import clip_grad_per_parameter


def make_params() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.zeros(shape)) for shape in [(5, 4), (3,), (2, 3, 3, 3), (2,), ()]]
    for param, scale in zip(params, [10.0, 1e-3, 1.0, 0.0, 7.0], strict=True):
        param.grad = scale * torch.randn(param.shape, generator=generator)
    return params


def test_clipped_gradients_equal_the_formula_of_dino():
    params = [*make_params(), nn.Parameter(torch.zeros(3))]
    grads = [param.grad.double().numpy().copy() for param in params[:-1]]
    total = clip_grad_per_parameter(iter(params), 0.5)
    for param, grad in zip(params, grads, strict=False):
        factor = min(1.0, 0.5 / (np.sqrt((grad**2).sum()) + 1e-6))
        np.testing.assert_allclose(param.grad.double().numpy(), grad * factor, rtol=1e-6, atol=0)
    assert total.item() == pytest.approx(np.sqrt(sum((grad**2).sum() for grad in grads)), rel=1e-6)
    assert params[-1].grad is None


def test_gradients_below_the_limit_are_unchanged():
    params = make_params()
    grads = [param.grad.clone() for param in params]
    clip_grad_per_parameter(params, 1e6)
    assert all(torch.equal(param.grad, grad) for param, grad in zip(params, grads, strict=True))


def test_norm_without_gradients_is_zero():
    assert clip_grad_per_parameter([nn.Parameter(torch.zeros(3))], 1.0).item() == 0.0


@pytest.mark.parametrize("max_norm", [0.0, -1.0, float("nan")])
def test_bad_max_norm_raises(max_norm):
    with pytest.raises(ValueError, match=f"max_norm must be above 0, got {max_norm}"):
        clip_grad_per_parameter(make_params(), max_norm)
