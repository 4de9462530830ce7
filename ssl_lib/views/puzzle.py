"""Tiles of an image and permutations of them, for jigsaw puzzles and relative location."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ssl_lib.types import BatchRandom

__all__ = ["permutation_table", "tiles"]

_TILE = 64 / 75  # of a cell; the rest is the gap


def tiles(
    images: Tensor,
    random: BatchRandom,
    grid: int = 3,
    size: float = _TILE,
    jitter: float = 1.0,
    normalize: bool = True,
) -> Tensor:
    """Cuts a tile at a random place from every cell of a grid, so that edges do not continue from tile to tile.

    Source: Noroozi and Favaro 2016 (arXiv:1603.09246, section 4): 64 pixels of cells of 75 pixels. Each tile is then
    normalized by its own mean and standard deviation (section 4.2), which would otherwise tell neighbors.

    Args:
        images: Floats (N, C, H, W), H = W.
        random: Draws the place of each tile within its cell.
        grid: Number of cells per row and column.
        size: Side of a tile as a fraction of the cell's, in (0, 1].
        jitter: Fraction of the free pixels of a cell by which a tile moves around the center, in [0, 1]; the rest stays
            free on both sides, so that tiles have a gap of at least `1 - jitter` of it.
        normalize: Whether to normalize each tile by its own mean and standard deviation.

    Returns:
        (N, grid * grid, C, s, s), row by row.

    Raises:
        ValueError: A cell has less than 2 pixels.
    """
    cell = images.shape[-1] // grid
    side = round(cell * size)
    if side < 2:
        raise ValueError(f"images of {images.shape[-1]} pixels are too small for {grid} x {grid} tiles")
    free = cell - side
    span = round(free * jitter)
    offsets = (random.per_image(grid * grid, 2) * (span + 1)).long().to(images.device) + (free - span) // 2  # (N, T, 2)
    corners = torch.cartesian_prod(torch.arange(grid), torch.arange(grid)).to(images.device) * cell
    places = (corners + offsets)[..., None] + torch.arange(side, device=images.device)  # (N, T, 2, s)
    rows, columns = places[:, :, 0, :, None], places[:, :, 1, None, :]
    batch = torch.arange(len(images), device=images.device)[:, None, None, None]
    cut = images[batch, :, rows, columns].movedim(-1, 2)  # (N, T, C, s, s)
    if not normalize:
        return cut
    return (cut - cut.mean((3, 4), keepdim=True)) / cut.std((3, 4), keepdim=True).clamp_min(1e-5)


def permutation_table(count: int, length: int = 9) -> Tensor:
    """Permutations that differ in as many places as possible (arXiv:1603.09246, algorithm 1), always the same.

    Each one is the candidate whose smallest Hamming distance to the earlier ones is largest. The candidates are all
    permutations if there are at most 5,040 of them, or else 20,000 random ones, or 10 per permutation.

    Args:
        count: Number of permutations P.
        length: Number of elements T.

    Returns:
        int64 (P, T), all distinct.

    Raises:
        ValueError: There are fewer permutations.
    """
    if not 2 <= count <= math.factorial(length):
        raise ValueError(f"the number of permutations must be in [2, {math.factorial(length)}], got {count}")
    generator = torch.Generator().manual_seed(0)
    if math.factorial(length) <= 5040:
        pool = torch.tensor(list(itertools.permutations(range(length))), device="cpu")
    else:
        draws = torch.rand(max(20_000, 10 * count), length, generator=generator, device="cpu")
        pool = draws.argsort(1).unique(dim=0)
    chosen = [int(torch.randint(len(pool), (1,), generator=generator, device="cpu"))]
    least = torch.full((len(pool),), length, dtype=torch.int16, device="cpu")
    while len(chosen) < count:
        least = torch.minimum(least, (pool != pool[chosen[-1]]).sum(1, dtype=torch.int16))
        chosen.append(int(least.argmax()))
    return pool[chosen]
