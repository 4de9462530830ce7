"""Tests of row normalization: correct at any scale, and bitwise equal to torch's at ordinary scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lib.utils.rows import row_norms, unit_rows

SCALES = [
    *((scale, torch.float32) for scale in (1e-36, 1e-30, 1e-16, 1e-7, 1.0, 1e7, 1e16, 1e30, 1e36)),
    *((scale, torch.float64) for scale in (1e-300, 1e-160, 1.0, 1e160, 1e300)),
    *((scale, torch.bfloat16) for scale in (1e-30, 1.0, 1e30)),
    *((scale, torch.float16) for scale in (1e-3, 1.0, 1e4)),
]


def problem(scale, dtype, dims=12):
    """Rows of one scale, the gradient of their unit rows, and both results in float64 numpy."""
    generator = torch.Generator().manual_seed(0)
    x, outer = torch.randn(2, 6, dims, dtype=torch.float64, generator=generator)
    x = (x * scale).to(dtype)
    wide = x.double().numpy()
    wide = wide / np.abs(wide).max()  # numpy must not overflow either
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / norms
    gradient = (outer.numpy() - unit * (outer.numpy() * unit).sum(1, keepdims=True)) / norms
    return x.requires_grad_(), outer.to(dtype), unit, gradient


@pytest.mark.parametrize(("scale", "dtype"), SCALES)
def test_unit_rows_and_gradient_equal_the_formula_at_any_scale(scale, dtype):
    x, outer, unit, gradient = problem(scale, dtype)
    result = unit_rows(x)
    result.backward(outer)
    tolerance = 40 * torch.finfo(dtype).eps
    np.testing.assert_allclose(result.detach().double().numpy(), unit, atol=tolerance)
    if dtype in (torch.float32, torch.float64):
        found = x.grad.double().numpy() * float(x.detach().double().abs().max())
        np.testing.assert_allclose(found, gradient, atol=100 * tolerance)


@pytest.mark.parametrize(("scale", "dtype"), [each for each in SCALES if each[1] is not torch.float16])
def test_row_norms_equal_numpy_at_any_scale(scale, dtype):
    x = problem(scale, dtype)[0].detach()
    largest = x.double().abs().max()
    expected = np.linalg.norm((x.double() / largest).numpy(), axis=1)
    found = row_norms(x).double() / largest
    np.testing.assert_allclose(found.numpy(), expected, rtol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 1e2, 1e6])
def test_ordinary_rows_equal_torch_bit_by_bit(scale, dtype):
    results = []
    for function in (unit_rows, lambda x: F.normalize(x, dim=-1)):
        x, outer, *_ = problem(scale, dtype, dims=100)
        result = function(x)
        result.backward(outer)
        results.append((result.detach(), x.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    x = problem(scale, dtype, dims=100)[0]
    assert torch.equal(row_norms(x), torch.linalg.vector_norm(x.detach(), dim=-1))


def test_rows_of_different_scales_do_not_affect_each_other():
    scales = torch.logspace(-37, 37, 75, dtype=torch.float64)[:, None]
    x = torch.randn(75, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x / x.norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit_rows((x * scales).float()), x.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-42])
def test_zero_and_subnormal_rows_are_zero_and_get_no_gradient(value):
    x = torch.full((2, 4), value)
    x[1] = 3.0
    x.requires_grad_()
    result = unit_rows(x)
    result.square()[:, 0].sum().backward()
    assert not result[0].any() and not x.grad[0].any()
    assert result[1].tolist() == [0.5] * 4 and x.grad[1].any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nonfinite_rows_stay_nonfinite(value):
    x = torch.ones(2, 4)
    x[0, 1] = value
    result = unit_rows(x)
    assert result[0].isnan().any() and result[1].tolist() == [0.5] * 4
    assert not row_norms(x)[0].isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_change_directions(dtype):
    x, _, unit, _ = problem(1e30, torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        np.testing.assert_allclose(unit_rows(x).detach().numpy(), unit, atol=1e-6)
