"""Particulars of the methods that whiten or spread embeddings: W-MSE, MMCR, SimDINO, LeJEPA and VISReg."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import Progress
from ssl_lib.losses import SIGRegLoss, VISRegLoss, WMSELoss, random_directions
from ssl_lib.types import BatchRandom, Views

PROGRESS = Progress(step=3, total_steps=12, steps_per_epoch=3)
END = Progress(step=12, total_steps=12, steps_per_epoch=3)


def views_of(large, small=0, seed=0, images=32):
    """Views of noise, with the method's random numbers from a seed."""
    generator = torch.Generator().manual_seed(9)
    pixels = [torch.randn(images, 1, size, size, generator=generator) for size in (16,) * large + (8,) * small]
    random = BatchRandom(images, generator=torch.Generator().manual_seed(seed))
    return Views(tuple(pixels[:large]), tuple(pixels[large:]), random=random)


def embeddings(method, views):
    """The embeddings (V, N, D) of all views, with batch statistics per size of views."""
    groups = [torch.cat(group) for group in (views.large, views.small) if group]
    return torch.cat([method.projector(method.backbone(group)) for group in groups]).unflatten(0, (-1, 32))


def test_w_mse_whitens_in_groups_that_the_views_numbers_draw(make_method):
    method = make_method("w_mse", whitening_size=16, out_dim=8, iterations=2)
    losses = [method(views_of(3, seed=seed), PROGRESS).loss for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    orders = views_of(3).random.shared(2, 32).argsort(1)
    z = method.projector(method.backbone(torch.cat(views_of(3).large))).chunk(3)
    torch.testing.assert_close(WMSELoss(16, 2)(*z, permutations=orders), losses[0])


def test_w_mse_with_groups_that_are_not_larger_than_the_width_raises(make_method):
    with pytest.raises(ValueError, match=r"whitening_size must be more than out_dim, 16, .* got 16"):
        make_method("w_mse", whitening_size=16)


def test_chance_level_of_w_mse_is_known_for_the_cosine_alone(make_method):
    assert make_method("w_mse").chance_loss(32) == 2
    assert make_method("w_mse", normalize=False).chance_loss(32) is None


def test_mmcr_has_a_teacher_with_constant_momentum_or_none(make_method):
    method = make_method("mmcr")
    assert method.ema_momentum(PROGRESS) == method.ema_momentum(END) == 0.99
    alone = make_method("mmcr", momentum=None)
    assert not alone.ema_pairs() and not [key for key in alone.state_dict() if key.startswith("teacher")]
    views = views_of(4)
    torch.testing.assert_close(alone(views, PROGRESS).loss, alone.loss(embeddings(alone, views).transpose(0, 1)))
    with_teacher = method.train()(views, PROGRESS).loss  # at first the teacher equals the student
    torch.testing.assert_close(with_teacher, alone(views, PROGRESS).loss, rtol=1e-5, atol=1e-5)


def test_simdino_compares_unit_features_and_evaluates_the_teacher(make_method):
    method = make_method("simdino")
    assert method.encoder is method.teacher.parts[0]
    output = method(views_of(2, small=2), PROGRESS)
    torch.testing.assert_close(output.embeddings.norm(dim=1), torch.ones(32))


@pytest.mark.parametrize(("name", "loss"), [("lejepa", SIGRegLoss), ("visreg", VISRegLoss)])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_lejepa_and_visreg_equal_the_formula(name, loss, weight, make_method):
    method, views = make_method(name, weight=weight), views_of(3, small=2)
    z = embeddings(method, views)
    agreement = torch.stack([(view - z[:3].mean(0)) ** 2 for view in z]).mean()
    directions = random_directions(views_of(3).random.shared(2, 16, 64))
    expected = (1 - weight) * agreement + weight * loss()(z, directions)
    torch.testing.assert_close(method(views, PROGRESS).loss, expected)


def test_directions_of_lejepa_change_with_the_views_numbers(make_method):
    method = make_method("lejepa")
    losses = [method(views_of(2, seed=seed), PROGRESS).loss for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_weight_out_of_range_raises(weight, make_method):
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\], got"):
        make_method("visreg", weight=weight)
