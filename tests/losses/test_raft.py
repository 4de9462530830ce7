"""RAFT's loss against squared distances in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.losses import RAFTLoss

NAMES = ("prediction_a", "prediction_b", "target_a", "target_b")


def embeddings(count=5):
    generator = torch.Generator().manual_seed(0)
    return list(torch.randn(4, count, 3, dtype=torch.float64, generator=generator).unbind(0))


def distance(a, b):
    a, b = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (a, b))
    return ((a - b) ** 2).sum(1).mean()


@pytest.mark.parametrize(("alignment", "teacher"), [(1.0, 1.0), (2.0, 0.5), (0.0, 1.0)])
def test_value_equals_the_formula(alignment, teacher):
    p_a, p_b, t_a, t_b = embeddings()
    expected = alignment * distance(p_a, p_b) - teacher * (distance(p_a, t_a) + distance(p_b, t_b)) / 2
    assert RAFTLoss(alignment, teacher)(p_a, p_b, t_a, t_b).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_matches_finite_differences_and_targets_get_none():
    p_a, p_b, t_a, t_b = (x.requires_grad_() for x in embeddings())
    assert torch.autograd.gradcheck(lambda a, b: RAFTLoss(2.0, 0.7)(a, b, t_a, t_b), (p_a, p_b))
    RAFTLoss()(p_a, p_b, t_a, t_b).backward()
    assert t_a.grad is None and t_b.grad is None and p_a.grad.any() and p_b.grad.any()


def test_loss_reaches_the_ends_of_its_range():
    e = torch.tensor([[1.0, 0.0]])
    assert RAFTLoss()(e, e, -e, -e).item() == -4
    assert RAFTLoss()(e, -e, e, -e).item() == 4
    assert RAFTLoss()(e, e, e, e).item() == 0


@pytest.mark.parametrize("name", ["alignment_weight", "teacher_weight"])
def test_bad_weights_raise(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0 and finite, got -1"):
        RAFTLoss(**{name: -1.0})


@pytest.mark.parametrize("wrong", range(1, 4))
def test_bad_shapes_raise(wrong):
    tensors = [torch.ones(3, 2) for _ in NAMES]
    tensors[wrong] = torch.ones(4, 2)
    with pytest.raises(ValueError, match=f"prediction_. and {NAMES[wrong]} must have the same shape"):
        RAFTLoss()(*tensors)
