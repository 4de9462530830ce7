"""Tests of mixup, cutmix and label smoothing against their formulas and timm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.evaluation import Mixing, cutmix, mixup, soft_targets


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, 2, 8, 10, generator=generator), torch.tensor([0, 1, 2, 2, 1, 0])


def test_soft_targets_equal_formula_and_timm():
    labels = torch.tensor([2, 0, 1])
    ours = soft_targets(labels, 4, 0.1)
    np.testing.assert_allclose(ours.numpy(), 0.9 * np.eye(4)[labels.numpy()] + 0.1 / 4, rtol=1e-6)
    theirs = pytest.importorskip("timm.data.mixup").mixup_target(labels, 4, lam=1.0, smoothing=0.1)
    torch.testing.assert_close(ours, theirs)


def test_mixup_blends_images_and_targets(batch):
    images, labels = batch
    mixed, targets = mixup(images, soft_targets(labels, 3), 0.7)
    for i in range(6):
        expected = 0.7 * images[i].double().numpy() + 0.3 * images[5 - i].double().numpy()
        np.testing.assert_allclose(mixed[i].numpy(), expected, rtol=1e-5)
        expected = 0.7 * np.eye(3)[labels[i]] + 0.3 * np.eye(3)[labels[5 - i]]
        np.testing.assert_allclose(targets[i].numpy(), expected, rtol=1e-6)


def test_cutmix_replaces_a_box_and_mixes_targets_by_area(batch):
    images, labels = batch
    before = images.clone()
    mixed, targets = cutmix(images, soft_targets(labels, 3), (2, 6, 1, 9))
    assert torch.equal(images, before)
    for i in range(6):
        foreign = np.zeros((8, 10), dtype=bool)
        foreign[2:6, 1:9] = True
        expected = np.where(foreign, images[5 - i], images[i])
        np.testing.assert_array_equal(mixed[i].numpy(), expected)
        share = 1 - foreign.mean()
        expected = share * np.eye(3)[labels[i]] + (1 - share) * np.eye(3)[labels[5 - i]]
        np.testing.assert_allclose(targets[i].numpy(), expected, rtol=1e-6)


def test_alphas_select_mixup_or_cutmix(batch):
    images, targets = batch[0], torch.eye(6)

    def kinds(mixing):
        found = []
        for seed in range(60):
            mixed, soft = mixing(images, targets, np.random.default_rng(seed))
            torch.testing.assert_close(soft.sum(1), torch.ones(6))
            untouched = ((mixed == images) | (mixed == images.flip(0))).all()
            found.append("same" if torch.equal(mixed, images) else "cutmix" if untouched else "mixup")
            same = (mixed[0] == images[0]).double().mean().item()
            if untouched:
                assert soft[0, 0].item() == pytest.approx(same, abs=1e-6)  # by the pixels
        return set(found)

    assert kinds(Mixing()) >= {"cutmix", "mixup"}
    assert kinds(Mixing(cutmix=0.0)) == {"mixup"}
    assert kinds(Mixing(mixup=0.0)) <= {"cutmix", "same"}
    assert kinds(Mixing(mixup=0.0, cutmix=0.0)) == {"same"}
