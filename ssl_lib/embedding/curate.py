"""Neighbors, near-duplicates and diverse subsets by cosine, in memory that does not grow with the square of N.

Embeddings (N, D) may be memory-mapped: on the CPU they are read in blocks. On CUDA they are held there.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from ssl_lib.utils.precision import resolve_device

__all__ = ["coverage", "duplicate_groups", "farthest_points", "nearest"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_ROWS = 2048  # of a block; a block against another is 16 MiB of cosines
ROUNDING = 1e-6  # of a cosine in float32


class _Blocks:
    """Embeddings in blocks, with unit length on demand; a row of zeros stays one, and has cosine 0 to all."""

    def __init__(self, embeddings: Floats, device: str) -> None:
        if embeddings.ndim != 2 or 0 in embeddings.shape:
            raise ValueError(f"embeddings must be (N, D) and not empty, got {embeddings.shape}")
        self.count, self.device = len(embeddings), resolve_device(device)
        self.starts = range(0, self.count, _ROWS)
        self._embeddings = embeddings
        self._held = [self._load(start) for start in self.starts] if self.device.type == "cuda" else None
        blocks = map(self.__getitem__, range(len(self.starts)))
        norms = torch.cat([torch.linalg.vector_norm(block, dim=1, dtype=torch.float64) for block in blocks])
        bad = ~norms.isfinite()
        if bad.any():
            raise ValueError(f"row {int(bad.nonzero()[0])} of the embeddings is NaN or infinite")
        self._scale = torch.where(norms > 0, 1 / norms, 0.0)

    def __getitem__(self, number: int) -> Tensor:
        return self._load(self.starts[number]) if self._held is None else self._held[number]

    def unit(self, number: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """One block, every row of length 1."""
        start = self.starts[number]
        return (self[number].double() * self._scale[start : start + _ROWS, None]).to(dtype)

    def rows(self, rows: Indices) -> Tensor:
        """Some rows, of length 1."""
        found = torch.from_numpy(np.array(self._embeddings[rows], np.float64)).to(self.device)
        return (found * self._scale[torch.from_numpy(rows).to(self.device), None]).float()

    @cached_property
    def scale(self) -> Tensor:
        """(N,), what a row is to be multiplied with."""
        return self._scale.float()

    def _load(self, start: int) -> Tensor:
        with warnings.catch_warnings():  # of a file that is mapped to be read: it is not written to
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(self._embeddings[start : start + _ROWS]).to(self.device, torch.float32)


def nearest(
    embeddings: Floats, queries: Floats, k: int = 10, *, device: str = "cpu", progress: bool = False
) -> tuple[Floats, Indices]:
    """The rows of largest cosine to each query: exact, computed in float64, of a table that may be memory-mapped.

    The evaluation's own, in float32, is `ssl_lib.evaluation.bank_neighbors`.

    Args:
        embeddings: (N, D).
        queries: (Q, D).
        k: At least 1; where there are fewer rows, all are given.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        Cosines in [-1, 1] and rows, both (Q, k), in falling order; of equal ones the first row comes first.

    Raises:
        ValueError: Shapes do not fit, `k` is below 1, or a number is not finite.
    """
    if k < 1 or queries.ndim != 2 or queries.shape[1:] != embeddings.shape[1:]:
        raise ValueError(f"k must be at least 1 and queries (Q, {embeddings.shape[-1]}), got {k} and {queries.shape}")
    blocks, asked = _Blocks(embeddings, device), _Blocks(queries, device)
    found = []
    total, hidden = len(asked.starts) * len(blocks.starts), None if progress else True
    with tqdm(total=total, unit="block", leave=False, disable=hidden) as bar:
        for number in range(len(asked.starts)):
            found.append(_nearest(asked.unit(number, torch.float64), blocks, k, bar))
    cosines, rows = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return cosines.float().clamp(-1, 1).numpy(), rows.numpy()


def duplicate_groups(
    embeddings: Floats, threshold: float = 0.98, *, device: str = "cpu", progress: bool = False
) -> list[Indices]:
    """Near-duplicates: the connected components of the graph of all pairs whose cosine is at least `threshold`.

    Two images of a group may be less alike than that, where others lie between them. Compares all N (N - 1) / 2 pairs,
    in float32: a cosine within 1e-6 of the threshold counts.

    Args:
        embeddings: (N, D).
        threshold: In (0, 1].
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        Groups of two or more rows, each in rising order, in the order of their first rows.

    Raises:
        ValueError: The threshold is out of range, or a number is not finite.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    blocks = _Blocks(embeddings, device)
    parents = np.arange(blocks.count)
    pairs = blocks.count * (blocks.count - 1) // 2
    with tqdm(total=pairs, unit="pair", unit_scale=True, disable=None if progress else True) as bar:
        for right, right_start in enumerate(blocks.starts):
            ours = blocks.unit(right)
            for left, left_start in enumerate(blocks.starts[: right + 1]):
                hits = ours @ (ours if left == right else blocks.unit(left)).T >= threshold - ROUNDING
                a, b = (hits.tril(-1) if left == right else hits).nonzero().cpu().numpy().T
                _unite(parents, a + right_start, b + left_start)
            bar.update(len(ours) * right_start + len(ours) * (len(ours) - 1) // 2)
    order = np.argsort(parents, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(parents[order])) + 1)
    return [group for group in groups if len(group) > 1]


def farthest_points(
    embeddings: Floats, count: int, *, seed: int = 0, device: str = "cpu", progress: bool = False
) -> Indices:
    """A diverse subset: each next image is the one farthest from all chosen before, on the unit sphere.

    Greedy k-center (Gonzalez 1985; for images Sener and Savarese 2018, arXiv:1708.00489, algorithm 1): its coverage
    radius is at most twice the smallest that `count` centers can have.

    Args:
        embeddings: (N, D).
        count: How many to choose, from 1 to N.
        seed: Draws the first image; all else follows from it.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        Rows, (count,), in the order in which they were chosen: the first n are the choice of n.

    Raises:
        ValueError: `count` is out of range, or a number is not finite.
    """
    if not 1 <= count <= len(embeddings):
        raise ValueError(f"can choose 1 to {len(embeddings)} of as many images, not {count}")
    blocks = _Blocks(embeddings, device)
    chosen = np.empty(count, np.int64)
    cosine = torch.full((blocks.count,), -2.0, device=blocks.device)  # to the nearest of those chosen
    row = int(np.random.default_rng(seed).integers(blocks.count))
    for place in tqdm(range(count), unit="image", disable=None if progress else True):
        chosen[place] = row
        center = blocks.rows(chosen[place : place + 1])[0]
        for number, start in enumerate(blocks.starts):
            part = slice(start, start + _ROWS)
            torch.maximum(cosine[part], (blocks[number] @ center) * blocks.scale[part], out=cosine[part])
        cosine[row] = torch.inf  # not again, where only copies are left
        row = int(cosine.argmin())
    return chosen


def coverage(
    embeddings: Floats, chosen: Sequence[int] | Indices, *, device: str = "cpu", progress: bool = False
) -> Floats:
    """How far each image is from the nearest of those chosen: the distance of unit vectors, in [0, 2].

    The largest is the coverage radius; a distance d is a cosine of 1 - d^2 / 2.

    Args:
        embeddings: (N, D).
        chosen: Rows, at least one.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        (N,), 0 for those chosen.

    Raises:
        ValueError: None are chosen, or a number is not finite.
    """
    rows = np.asarray(chosen, np.int64)
    if rows.ndim != 1 or not len(rows):
        raise ValueError(f"choose at least one row, got {rows.shape}")
    blocks = _Blocks(embeddings, device)
    cosine = torch.full((blocks.count,), -1.0, device=blocks.device)
    for part in np.split(rows, range(_ROWS, len(rows), _ROWS)):
        centers = blocks.rows(part)
        bar = tqdm(blocks.starts, "distances", unit="block", leave=False, disable=None if progress else True)
        for number, start in enumerate(bar):
            here = slice(start, start + _ROWS)
            torch.maximum(cosine[here], (blocks.unit(number) @ centers.T).amax(1), out=cosine[here])
    cosine[torch.from_numpy(rows).to(blocks.device)] = 1
    return (2 - 2 * cosine).clamp_(min=0).sqrt_().cpu().numpy()


def _unite(parents: Indices, a: Indices, b: Indices) -> None:
    """Joins the sets of a[i] and of b[i], for every i; afterwards each row's parent is the first row of its set."""
    while True:
        roots_a, roots_b = parents[a], parents[b]
        differ = roots_a != roots_b
        if not differ.any():
            return
        a, b, roots_a, roots_b = a[differ], b[differ], roots_a[differ], roots_b[differ]
        np.minimum.at(parents, np.maximum(roots_a, roots_b), np.minimum(roots_a, roots_b))
        while not np.array_equal(parents, above := parents[parents]):
            parents[:] = above


def _nearest(wanted: Tensor, blocks: _Blocks, k: int, bar: tqdm[NoReturn]) -> tuple[Tensor, Tensor]:
    """Cosines and rows of the k nearest to a block of queries of unit length (q, D)."""
    best = wanted.new_empty(len(wanted), 0)
    rows = torch.empty(len(wanted), 0, dtype=torch.int64, device=wanted.device)
    for number, start in enumerate(blocks.starts):
        cosines = wanted @ blocks.unit(number, torch.float64).T  # (q, B)
        here = torch.arange(start, start + cosines.shape[1], device=wanted.device).expand_as(cosines)
        best, order = torch.cat([best, cosines], 1).sort(dim=1, descending=True, stable=True)
        rows = torch.cat([rows, here], 1).gather(1, order)[:, :k]
        best = best[:, :k]
        bar.update()
    return best, rows
