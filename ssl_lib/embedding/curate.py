"""Nearest neighbors and diverse subsets by cosine similarity, without an N x N matrix in memory.

Embeddings (N, D) may be memory-mapped. On the CPU they are read in blocks; on CUDA they are kept on the device.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from ssl_lib.utils.precision import resolve_device
from ssl_lib.utils.progress_bar import progress_bar

__all__ = ["Blocks", "coverage", "farthest_points", "nearest"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_ROWS = 2048  # rows per block; the cosines between two blocks take 16 MiB


class Blocks:
    """Embeddings in blocks, optionally normalized. Rows of zeros stay zero, so their cosine to any row is 0.

    Args:
        embeddings: (N, D).
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        order: Row indices in the order in which the blocks contain them; None is all rows.

    Raises:
        ValueError: The shape is wrong, or a value is not finite.
    """

    def __init__(self, embeddings: Floats, device: str, order: Indices | None = None) -> None:
        if embeddings.ndim != 2 or 0 in embeddings.shape:
            raise ValueError(f"embeddings must be (N, D) and not empty, got {embeddings.shape}")
        self.count, self.device = len(embeddings if order is None else order), resolve_device(device)
        self.starts = range(0, self.count, _ROWS)
        self._embeddings, self._order = embeddings, order
        self._blocks = [self._load(start) for start in self.starts] if self.device.type == "cuda" else None
        blocks = map(self.__getitem__, range(len(self.starts)))
        norms = torch.cat([torch.linalg.vector_norm(block, dim=1, dtype=torch.float64) for block in blocks])
        if (bad := ~norms.isfinite()).any():
            row = int(bad.nonzero()[0])
            row = row if order is None else int(order[row])
            raise ValueError(f"row {row} of the embeddings is NaN or infinite")
        self._scale = torch.where(norms > 0, 1 / norms, 0.0)
        self.scale = self._scale.float()  # (N,), the factors that normalize the rows

    def __getitem__(self, number: int) -> Tensor:
        return self._load(self.starts[number]) if self._blocks is None else self._blocks[number]

    def unit(self, number: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """One block with unit-length rows."""
        start = self.starts[number]
        return (self[number].double() * self._scale[start : start + _ROWS, None]).to(dtype)

    def rows(self, rows: Indices) -> Tensor:
        """The given rows, normalized to unit length."""
        values = torch.from_numpy(np.array(self._embeddings[rows], np.float64)).to(self.device)
        return (values * self._scale[torch.from_numpy(rows).to(self.device), None]).float()

    def _load(self, start: int) -> Tensor:
        with warnings.catch_warnings():  # memory-mapped files are read-only; the tensor is never written to
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            part = slice(start, start + _ROWS)
            rows = self._embeddings[part if self._order is None else self._order[part]]
            return torch.from_numpy(rows).to(self.device, torch.float32)


def nearest(
    embeddings: Floats, queries: Floats, k: int = 10, *, device: str = "cpu", progress: bool = False
) -> tuple[Floats, Indices]:
    """Exact nearest neighbors by cosine similarity, computed in float64; the embeddings may be memory-mapped.

    The evaluation protocols use `ssl_lib.evaluation.bank_neighbors`, which computes in float32.

    Args:
        embeddings: (N, D).
        queries: (Q, D).
        k: Number of neighbors, at least 1; limited to N.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        Cosines in [-1, 1] and row indices, both (Q, k), by descending cosine; ties are sorted by row index.

    Raises:
        ValueError: Shapes do not match, `k` is below 1, or a value is not finite.
    """
    if k < 1 or queries.ndim != 2 or queries.shape[1:] != embeddings.shape[1:]:
        raise ValueError(
            f"k must be at least 1 and queries must be (Q, {embeddings.shape[-1]}), got k {k} and {queries.shape}"
        )
    blocks, query_blocks = Blocks(embeddings, device), Blocks(queries, device)
    found = []
    total = len(query_blocks.starts) * len(blocks.starts)
    with progress_bar(total=total, unit="block", show=progress) as bar:
        for number in range(len(query_blocks.starts)):
            found.append(_nearest(query_blocks.unit(number, torch.float64), blocks, k, bar))
    cosines, rows = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return cosines.float().clamp(-1, 1).numpy(), rows.numpy()


def farthest_points(
    embeddings: Floats, count: int, *, seed: int = 0, device: str = "cpu", progress: bool = False
) -> Indices:
    """Selects a diverse subset by farthest-point sampling on the unit sphere (greedy k-center).

    Each step adds the image farthest from all selected images (Gonzalez 1985; for images Sener and Savarese 2018,
    arXiv:1708.00489, algorithm 1). The coverage radius is at most twice the optimum for `count` centers.

    Args:
        embeddings: (N, D).
        count: Number of images to select, from 1 to N.
        seed: Seed that draws the first image; the rest is deterministic.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        Row indices, (count,), in the order of selection: the first n are the selection for `count` = n.

    Raises:
        ValueError: `count` is out of range, or a value is not finite.
    """
    if not 1 <= count <= len(embeddings):
        raise ValueError(f"count must be from 1 to {len(embeddings)}, the number of images, got {count}")
    blocks = Blocks(embeddings, device)
    chosen = np.empty(count, np.int64)
    cosine = torch.full((blocks.count,), -2.0, device=blocks.device)  # to the nearest selected image
    row = int(np.random.default_rng(seed).integers(blocks.count))
    for place in progress_bar(range(count), unit="image", leave=True, show=progress):
        chosen[place] = row
        center = blocks.rows(chosen[place : place + 1])[0]
        for number, start in enumerate(blocks.starts):
            part = slice(start, start + _ROWS)
            torch.maximum(cosine[part], (blocks[number] @ center) * blocks.scale[part], out=cosine[part])
        cosine[row] = torch.inf  # never select a row twice, even if only copies are left
        row = int(cosine.argmin())
    return chosen


def coverage(
    embeddings: Floats, chosen: Sequence[int] | Indices, *, device: str = "cpu", progress: bool = False
) -> Floats:
    """Distance of each image to the nearest chosen image, between unit-length embeddings, in [0, 2].

    The largest distance is the coverage radius. A distance d corresponds to a cosine of 1 - d^2 / 2.

    Args:
        embeddings: (N, D).
        chosen: Row indices, at least one.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        (N,) distances, 0 for the chosen rows.

    Raises:
        ValueError: `chosen` is empty, or a value is not finite.
    """
    rows = np.asarray(chosen, np.int64)
    if rows.ndim != 1 or not len(rows):
        raise ValueError(f"chosen must be a list of at least one row, got shape {rows.shape}")
    blocks = Blocks(embeddings, device)
    cosine = torch.full((blocks.count,), -1.0, device=blocks.device)
    for part in np.split(rows, range(_ROWS, len(rows), _ROWS)):
        centers = blocks.rows(part)
        bar = progress_bar(blocks.starts, "distances", unit="block", show=progress)
        for number, start in enumerate(bar):
            here = slice(start, start + _ROWS)
            torch.maximum(cosine[here], (blocks.unit(number) @ centers.T).amax(1), out=cosine[here])
    cosine[torch.from_numpy(rows).to(blocks.device)] = 1
    return (2 - 2 * cosine).clamp_(min=0).sqrt_().cpu().numpy()


def _nearest(queries: Tensor, blocks: Blocks, k: int, bar: tqdm[NoReturn]) -> tuple[Tensor, Tensor]:
    """Cosines and row indices of the k nearest neighbors of a block of unit-length queries (q, D)."""
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for number, start in enumerate(blocks.starts):
        cosines = queries @ blocks.unit(number, torch.float64).T  # (q, B)
        here = torch.arange(start, start + cosines.shape[1], device=queries.device).expand_as(cosines)
        best, order = torch.cat([best, cosines], 1).sort(dim=1, descending=True, stable=True)
        rows = torch.cat([rows, here], 1).gather(1, order)[:, :k]
        best = best[:, :k]
        bar.update()
    return best, rows
