"""DirectCLR compared with its formula in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_lib.losses import DirectCLRLoss


def representations(count: int = 6, width: int = 7) -> tuple[Tensor, Tensor]:
    r = torch.randn(2, count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return r[0].clone(), r[1].clone()


def formula(r_a: np.ndarray, r_b: np.ndarray, dim: int, temperature: float) -> float:
    total = 0.0
    for own, other in ((r_a, r_b), (r_b, r_a)):
        own, other = own[:, :dim], other[:, :dim]
        lengths = np.outer(np.sqrt((own**2).sum(1)), np.sqrt((other**2).sum(1)))
        exponentials = np.exp(own @ other.T / lengths / temperature)
        total -= np.log(np.diag(exponentials) / exponentials.sum(1)).mean() / 2
    return float(total)


@pytest.mark.parametrize("dim", [2, 5, 7])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_loss_equals_the_formula(dim, temperature):
    r_a, r_b = representations()
    loss = DirectCLRLoss(dim, temperature)(r_a, r_b)
    assert loss.item() == pytest.approx(formula(r_a.numpy(), r_b.numpy(), dim, temperature), rel=1e-12)


def test_features_behind_the_slice_change_nothing_and_get_no_gradient():
    r_a, r_b = representations()
    r_a.requires_grad_()
    loss = DirectCLRLoss(3)(r_a, r_b)
    loss.backward()
    assert r_a.grad[:, :3].abs().min() > 0 and not r_a.grad[:, 3:].any()
    changed = torch.cat((r_a[:, :3], 100 * r_a[:, 3:]), 1)
    assert DirectCLRLoss(3)(changed, r_b) == loss


def test_gradient_matches_finite_differences():
    inputs = tuple(r.requires_grad_() for r in representations(4))
    assert torch.autograd.gradcheck(DirectCLRLoss(3, 0.5), inputs)


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        DirectCLRLoss(0)
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        DirectCLRLoss(3, 0.0)
    with pytest.raises(ValueError, match="dim is 8, but the representations have 7 features"):
        DirectCLRLoss(8)(*representations())
