"""The loss of AMDIM and YADIM compared with its formula in numpy."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_lib.losses import AMDIMLoss


def embeddings(count: int = 5, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    z = scale * torch.randn(2, count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return z[0].clone(), z[1].clone()


def formula(z_a: np.ndarray, z_b: np.ndarray, clip: float, penalty: float) -> float:
    scores = z_a @ z_b.T / math.sqrt(z_a.shape[1])
    clipped = np.exp(clip * np.tanh(scores / clip))
    positives = np.diag(clipped)
    rows, columns = (np.log(positives / clipped.sum(axis)).mean() for axis in (1, 0))
    return float(-(rows + columns) / 2 + penalty * np.mean(scores**2))


@pytest.mark.parametrize("scale", [0.5, 5.0])
@pytest.mark.parametrize(("clip", "penalty"), [(10.0, 0.05), (2.0, 0.0), (20.0, 1.0)])
def test_loss_equals_the_formula(clip, penalty, scale):
    z_a, z_b = embeddings(scale=scale)
    loss = AMDIMLoss(clip, penalty)(z_a, z_b)
    assert loss.item() == pytest.approx(formula(z_a.numpy(), z_b.numpy(), clip, penalty), rel=1e-12)


def test_scores_are_bounded_by_the_clip():
    z = 1e3 * torch.eye(4, dtype=torch.float64)
    bound = math.log(1 + 3 * math.exp(-5.0))  # the positive at 5, three negatives at 0
    assert AMDIMLoss(5.0, 0.0)(z, z).item() == pytest.approx(bound, rel=1e-12)


def test_uninformative_embeddings_have_the_chance_level():
    assert AMDIMLoss()(torch.zeros(6, 3), torch.zeros(6, 3)).item() == pytest.approx(math.log(6))


def test_gradient_matches_finite_differences():
    assert torch.autograd.gradcheck(AMDIMLoss(3.0), tuple(z.requires_grad_() for z in embeddings()))


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match="clip must be positive and finite, got 0"):
        AMDIMLoss(clip=0.0)
    with pytest.raises(ValueError, match="penalty must be at least 0 and finite, got -1"):
        AMDIMLoss(penalty=-1.0)
    with pytest.raises(ValueError, match="at least 2 images"):
        AMDIMLoss()(torch.ones(1, 3), torch.ones(1, 3))
