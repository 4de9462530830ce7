"""Near-duplicates: groups of images that are similar to the image that is kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_lib.embedding.curate import Blocks
from ssl_lib.utils.progress_bar import progress_bar

__all__ = ["ROUNDING", "duplicate_groups"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

ROUNDING = 1e-6  # rounding error of a cosine in float32


def duplicate_groups(
    embeddings: Floats,
    threshold: float = 0.98,
    *,
    order: Indices | None = None,
    mirrored: Floats | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> list[Indices]:
    """Near-duplicates, measured from the image that is kept.

    An image is kept unless its cosine to an image kept before it is at least `threshold`; then it belongs to the most
    similar one of these. Every image of a group is therefore similar to the group's first image, and no two kept images
    are similar to each other; images that are only connected by a chain of others stay apart. All pairs with a kept
    image are compared in float32; a cosine counts if it is at most 1e-6 below the threshold.

    Args:
        embeddings: (N, D).
        threshold: Smallest cosine of two near-duplicates, in (0, 1].
        order: Row indices to compare, the images to prefer first; None compares all rows in their order.
        mirrored: (N, D), embeddings of the horizontally flipped images. The cosine of two images is then the larger one
            of both variants of the later image. None compares the images as they are.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        Groups of two or more row indices: the image to keep, then the others, sorted. Groups are sorted by their first
        row.

    Raises:
        ValueError: The threshold is out of range, shapes do not match, or a value is not finite.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    if mirrored is not None and mirrored.shape != embeddings.shape:
        raise ValueError(f"mirrored must have the shape of the embeddings, {embeddings.shape}, got {mirrored.shape}")
    if order is not None and not len(order):
        return []
    variants = [Blocks(part, device, order) for part in (embeddings, mirrored) if part is not None]
    rows = np.arange(len(embeddings)) if order is None else np.asarray(order, np.int64)
    leaders = rows[_leaders(variants, threshold - ROUNDING, progress)]
    groups = [np.r_[row, np.sort(rows[(leaders == row) & (rows != row)])] for row in _repeated(leaders)]
    return sorted(groups, key=lambda group: int(group[0]))


def _repeated(values: Indices) -> Iterator[int]:
    found, counts = np.unique(values, return_counts=True)
    yield from found[counts > 1].tolist()


def _leaders(variants: list[Blocks], least: float, progress: bool) -> Indices:
    """The kept image of each image, itself if it is kept. The first of the variants are the images as they are."""
    plain = variants[0]
    leaders = np.arange(plain.count)
    pairs = plain.count * (plain.count - 1) // 2
    with progress_bar(total=pairs, unit="pair", unit_scale=True, leave=True, show=progress) as bar:
        for number, start in enumerate(plain.starts):
            rows = [blocks.unit(number) for blocks in variants]
            best = torch.full((len(rows[0]),), -torch.inf, device=plain.device)
            nearest = torch.zeros_like(best, dtype=torch.int64)
            for other, place in enumerate(plain.starts[:number]):
                block = plain.unit(other)
                kept = torch.from_numpy(leaders[place : place + len(block)] == np.arange(place, place + len(block)))
                _update(best, nearest, _cosines(rows, block), kept.to(plain.device), place, least)
            cosines = _cosines(rows, rows[0])
            cosines.masked_fill_(torch.ones_like(cosines, dtype=torch.bool).triu(), -torch.inf)  # to earlier rows
            kept = torch.from_numpy(_kept((best < least).cpu().numpy(), (cosines >= least).cpu().numpy()))
            _update(best, nearest, cosines, kept.to(plain.device), start, least)
            dropped = np.flatnonzero(~kept.numpy())
            leaders[start + dropped] = nearest.cpu().numpy()[dropped]
            bar.update(len(rows[0]) * start + len(rows[0]) * (len(rows[0]) - 1) // 2)
    return leaders


def _cosines(variants: list[Tensor], others: Tensor) -> Tensor:
    """Cosines (R, B) of unit-length rows, of their most similar variant, to others."""
    cosines = variants[0] @ others.T
    for variant in variants[1:]:
        torch.maximum(cosines, variant @ others.T, out=cosines)
    return cosines


def _update(best: Tensor, nearest: Tensor, cosines: Tensor, kept: Tensor, start: int, least: float) -> None:
    """Updates, in place, the largest cosine (R,) to a kept image and its position, by a block from `start` on.

    Cosines (R, B) below `least` are ignored: most pairs of blocks have no others.
    """
    rows = (cosines.amax(1) >= least).nonzero()[:, 0]
    if len(rows):
        largest, places = cosines[rows].masked_fill_(~kept, -torch.inf).max(dim=1)
        better = largest > best[rows]
        best[rows[better]], nearest[rows[better]] = largest[better], places[better] + start


def _kept(candidates: npt.NDArray[np.bool_], similar: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which candidates of a block are kept: those that are similar (R, R) to no earlier row that is kept."""
    kept: npt.NDArray[np.bool_] = candidates.copy()
    for row in np.flatnonzero(kept & similar.any(1)):
        kept[row] = not (similar[row] & kept).any()
    return kept
