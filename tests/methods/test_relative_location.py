"""Patches and pairs of the relative location task."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from ssl_lib import METHODS, Progress, Views
from ssl_lib.types import BatchRandom
from tests.conftest import TinyBackbone

START = Progress(step=0, total_steps=100, steps_per_epoch=10)


class Recorder(TinyBackbone):
    """A backbone that keeps its inputs and outputs."""

    def forward(self, patches):
        self.patches, self.outputs = patches, super().forward(patches)
        return self.outputs


def images(channels: int = 3) -> torch.Tensor:
    return torch.randn(4, channels, 36, 36, generator=torch.Generator().manual_seed(0))


def run(channels: int = 3, **arguments):
    torch.manual_seed(0)
    method = METHODS["relative_location"](Recorder(channels), hidden_dim=8, **arguments)
    return method, method(Views((images(channels),)), START)


def test_loss_is_the_cross_entropy_of_the_directions_from_the_center():
    method, output = run()
    features = method.backbone.outputs.detach().view(4, 3, 3, 16)  # by row and column of the grid
    directions = [(row, column) for row, column in itertools.product(range(3), range(3)) if (row, column) != (1, 1)]
    pairs = torch.stack([torch.cat([features[:, 1, 1], features[:, y, x]], 1) for y, x in directions], 1)
    logits = method.classifier(pairs.flatten(0, 1)).view(4, 8, 8)
    expected = -sum(F.log_softmax(logits[:, k], 1)[:, k].mean() for k in range(8)) / 8
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.features, features.flatten(1, 2).mean(1))


def test_patches_have_gaps_and_stay_in_their_cells():
    """Patches of 8 of 12 pixels, moved by one pixel at most: 3 to 5 pixels apart."""
    rows, columns = torch.meshgrid(torch.arange(36.0), torch.arange(36.0), indexing="ij")
    method = METHODS["relative_location"](Recorder(2), hidden_dim=8, drop_colors=False)
    marks = torch.stack([rows, columns]).sub(17.5).pow(3).repeat(200, 1, 1, 1)
    method(Views((marks,)), START)
    patches = method.backbone.patches.view(200, 9, 2, 8, 8)
    for cell, axis in itertools.product(range(9), range(2)):
        corner = 12 * (cell // 3 if axis == 0 else cell % 3)
        found = set()
        for offset in range(5):
            line = torch.arange(corner + offset, corner + offset + 8.0).sub(17.5).pow(3)
            line = line.repeat_interleave(8).view(8, 8) if axis == 0 else line.repeat(8, 1)
            expected = (line - line.mean()) / line.std()
            found |= {offset} if any(torch.allclose(p, expected, atol=1e-4) for p in patches[:, cell, axis]) else set()
        assert found == {1, 2}


def test_one_random_channel_of_each_patch_is_kept_with_the_mean_square_of_all():
    method, _ = run()
    patches = method.backbone.patches
    kept = patches.abs().amax((2, 3)) > 0
    assert (kept.sum(1) == 1).all() and kept.any(0).all()
    squares = patches.square().mean((1, 2, 3))
    torch.testing.assert_close(squares, torch.full_like(squares, 63 / 64))  # the standard deviation is the unbiased one


def test_gray_images_and_a_switch_keep_all_channels():
    for channels, arguments in ((1, {}), (2, {}), (3, {"drop_colors": False})):
        method, _ = run(channels, **arguments)
        assert (method.backbone.patches.abs().amax((2, 3)) > 0).all()


def test_random_numbers_are_the_images_own():
    """Half a batch gets the patches of the whole batch."""
    method = METHODS["relative_location"](Recorder(3), hidden_dim=8)
    seeded = torch.Generator
    method(Views((images(),), random=BatchRandom(4, None, seeded().manual_seed(7))), START)
    whole = method.backbone.patches
    rows = torch.tensor([2, 3])
    method(Views((images()[2:],), random=BatchRandom(4, rows, seeded().manual_seed(7))), START)
    assert torch.equal(method.backbone.patches, whole[18:])


def test_head_sees_pairs_of_features():
    method, _ = run()
    layers = [layer for layer in method.classifier if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(32, 8), (8, 8)]
