"""Tiles of jigsaw puzzles and their permutations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from ssl_lib.types import BatchRandom
from ssl_lib.views.puzzle import permutation_table, tiles


def test_tiles_are_normalized_cuts_from_their_cells():
    images = torch.rand(4, 2, 30, 30, dtype=torch.float64)
    cut = tiles(images, BatchRandom(4, generator=torch.Generator().manual_seed(0)))
    assert cut.shape == (4, 9, 2, 9, 9)
    torch.testing.assert_close(cut.mean((3, 4)), torch.zeros(4, 9, 2, dtype=torch.float64), atol=1e-10, rtol=0)
    torch.testing.assert_close(cut.std((3, 4)), torch.ones(4, 9, 2, dtype=torch.float64))
    places = set()
    for image, cell in itertools.product(range(4), range(9)):
        top, left = 10 * (cell // 3), 10 * (cell % 3)
        found = []
        for y, x in itertools.product(range(2), range(2)):
            part = images[image, :, top + y : top + y + 9, left + x : left + x + 9]
            expected = (part - part.mean((1, 2), keepdim=True)) / part.std((1, 2), keepdim=True)
            found += [(y, x)] * torch.allclose(cut[image, cell], expected)
        assert len(found) == 1
        places.update(found)
    assert len(places) == 4  # all offsets occur


@pytest.mark.parametrize(("jitter", "offsets"), [(0.0, {2}), (0.5, {1, 2, 3}), (1.0, {0, 1, 2, 3, 4})])
def test_jitter_moves_tiles_around_the_center_of_their_cells(jitter, offsets):
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    places = torch.stack([rows, columns])  # an image of its own coordinates
    images = (places - 11.5).pow(3).expand(50, -1, -1, -1).double()  # cubes, so that normalized tiles still tell them
    found = set()
    cut = tiles(images, BatchRandom(50, generator=torch.Generator().manual_seed(0)), size=0.5, jitter=jitter)
    assert cut.shape == (50, 9, 2, 4, 4)
    for cell, offset in itertools.product(range(9), range(5)):
        for axis, corner in ((0, 8 * (cell // 3)), (1, 8 * (cell % 3))):
            line = torch.arange(corner + offset, corner + offset + 4).double().sub(11.5).pow(3)
            tile = line[:, None].expand(4, 4) if axis == 0 else line.expand(4, 4)
            expected = (tile - tile.mean()) / tile.std()
            if any(torch.allclose(part, expected, atol=1e-9) for part in cut[:, cell, axis]):
                found.add(offset)
    assert found == offsets


def test_tiles_without_normalization_are_the_normalized_ones_before_it():
    images = torch.rand(5, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    plain, normalized = (
        tiles(images, BatchRandom(5, generator=torch.Generator().manual_seed(1)), normalize=normalize)
        for normalize in (False, True)
    )
    mean, std = plain.mean((3, 4), keepdim=True), plain.std((3, 4), keepdim=True)
    torch.testing.assert_close((plain - mean) / std, normalized)
    assert all((images[0] == tile[:, :1, :1]).all(0).any() for tile in plain[0])


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="images of 5 pixels are too small for 3 x 3 tiles"):
        tiles(torch.rand(1, 1, 5, 5), BatchRandom(1))


def test_permutations_are_distinct_far_apart_and_always_the_same():
    table = permutation_table(50)
    assert torch.equal(table, permutation_table(50)) and torch.equal(table.sort(1).values[0], torch.arange(9))
    assert len(table.unique(dim=0)) == 50
    least = min(int((a != b).sum()) for a, b in itertools.combinations(table, 2))
    random = np.random.default_rng(0).permuted(np.tile(np.arange(9), (50, 1)), axis=1)
    usual = min(int((a != b).sum()) for a, b in itertools.combinations(random, 2))
    assert least > usual


def test_all_permutations_of_a_short_sequence():
    assert sorted(map(tuple, permutation_table(6, 3).tolist())) == list(itertools.permutations(range(3)))
    with pytest.raises(ValueError, match=r"must be in \[2, 6\], got 7"):
        permutation_table(7, 3)
