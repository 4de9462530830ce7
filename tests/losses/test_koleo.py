"""KoLeo and VCReg against the formulas in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.losses import KoLeoLoss, VCRegLoss, VICRegLoss


def embeddings(count=9, seed=0):
    return torch.randn(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_koleo_is_the_mean_log_distance_to_the_nearest():
    x = embeddings().numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T - 3 * np.eye(9)
    distances = np.linalg.norm(x - x[cosines.argmax(1)] + 1e-8, axis=1)
    expected = -np.log(distances + 1e-8).mean()
    assert KoLeoLoss()(embeddings()).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(KoLeoLoss(), (embeddings().requires_grad_(),))


def test_koleo_spreads_embeddings():
    x = torch.nn.Parameter(1 + 0.01 * embeddings(32).float())
    optimizer = torch.optim.SGD([x], lr=1.0)
    before = KoLeoLoss()(x).item()
    for _ in range(50):
        optimizer.zero_grad()
        KoLeoLoss()(x).backward()
        optimizer.step()
    assert KoLeoLoss()(x).item() < before - 1


def test_vcreg_is_vicreg_of_two_equal_views():
    """VICReg averages the hinge over the views and sums the covariances; the invariance of equal views is 0."""
    z = embeddings().requires_grad_()
    expected = VICRegLoss(25.0, 3.0, 0.5)(z, z)
    assert VCRegLoss(3.0, 1.0)(z).item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.autograd.gradcheck(VCRegLoss(3.0, 1.0), (z,))


@pytest.mark.parametrize("loss", [KoLeoLoss(), VCRegLoss()])
def test_one_image_is_refused(loss):
    with pytest.raises(ValueError, match="at least 2 images"):
        loss(torch.ones(1, 3))
