"""Weighted cross-entropy against its formula in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.losses import cross_entropy


def test_weights_multiply_the_rows_of_their_class_and_do_not_change_the_divisor():
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets, weights = torch.tensor([0, 2, -100, 2, 1, 0]), torch.tensor([0.5, 0.0, 3.0])
    logs = x.detach().numpy() - np.log(np.exp(x.detach().numpy()).sum(1, keepdims=True))
    kept = targets.numpy() >= 0
    rows = -logs[kept, targets.numpy()[kept]] * weights.double().numpy()[targets.numpy()[kept]]
    assert cross_entropy(x, targets, weights).item() == pytest.approx(rows.sum() / 5, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, targets, weights), (x,))
