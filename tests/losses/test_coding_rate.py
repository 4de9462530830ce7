"""The coding rate loss of SimDINO against the formula in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lib.losses import CodingRateLoss


def features(views, seed=0, images=6):
    x = torch.randn(views, images, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(x, dim=-1)


@pytest.mark.parametrize("images", [3, 6])
@pytest.mark.parametrize("expansion", ["mean", "student"])
@pytest.mark.parametrize("teachers", [1, 2])
def test_value_equals_the_formula(teachers, expansion, images):
    student, teacher = features(3, images=images), features(teachers, seed=1, images=images)
    s, t = student.numpy(), teacher.numpy()
    cosines = [
        np.mean([a @ b for a, b in zip(s[i], t[j], strict=True)]) for i in range(3) for j in range(teachers) if i != j
    ]
    rates = []
    for j in range(teachers):
        z = (s[j] + t[j]) / 2 if expansion == "mean" else s[j]
        _, log_det = np.linalg.slogdet(np.eye(images) + 4 / (images * 0.2) * z @ z.T)  # of the (N, N) Gram matrix
        rates.append((4 + images) / (4 * images) * log_det / 2)
    loss = CodingRateLoss(0.2, 0.7, expansion)(list(student), list(teacher))
    assert loss.item() == pytest.approx(-0.7 * np.mean(cosines) - np.mean(rates), rel=1e-12)


@pytest.mark.parametrize("expansion", ["mean", "student"])
def test_gradient_matches_finite_differences(expansion):
    inputs = features(3).requires_grad_(), features(2, seed=1).requires_grad_()
    loss = CodingRateLoss(expansion=expansion)
    assert torch.autograd.gradcheck(lambda s, t: loss(s.unbind(), t.unbind()), inputs)


def test_values_of_spread_and_of_collapsed_features():
    spread, collapsed = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[:1].expand(4, 4)
    rate = (4 + 4) / 16 * 0.5 * 4 * np.log(1 + 1 / 0.5)
    assert CodingRateLoss(0.5)([spread] * 2, [spread] * 2).item() == pytest.approx(-1 - rate)
    rate = (4 + 4) / 16 * 0.5 * np.log(1 + 4 / 0.5)
    assert CodingRateLoss(0.5)([collapsed] * 2, [collapsed] * 2).item() == pytest.approx(-1 - rate)


@pytest.mark.parametrize(("name", "value"), [("eps", 0.0), ("weight", -1.0), ("expansion", "teacher")])
def test_bad_constructor_arguments_raise(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* got '?{value}"):
        CodingRateLoss(**{name: value})


def test_bad_views_raise():
    x = features(3)
    with pytest.raises(ValueError, match="got 1 student and 1 teacher views"):
        CodingRateLoss()(x[:1].unbind(), x[:1].unbind())
    with pytest.raises(ValueError, match="got 2 student and 3 teacher views"):
        CodingRateLoss()(x[:2].unbind(), x.unbind())
    with pytest.raises(ValueError, match=r"teacher\[0\] must be .*\(6, 4\); got torch.float64 of shape \(5, 4\)"):
        CodingRateLoss()(x.unbind(), [x[0, :5]])
