"""Label-free metrics of soft assignments of images to prototypes: usage and entropies."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_lib.utils.rows import check_finite

__all__ = ["assignment_entropy", "prototype_entropy", "prototype_usage"]


@torch.no_grad()
def prototype_usage(assignments: Tensor) -> float:
    """Fraction of the prototypes that are the most likely prototype of at least one image.

    Args:
        assignments: (N, K), K >= 2, each row a distribution over the prototypes.

    Returns:
        A value in (0, 1]: the number of used prototypes divided by min(N, K). Random assignments with K = N give about
        0.63.

    Raises:
        ValueError: The assignments are not a finite float matrix (N, K) with K >= 2.
    """
    return len(_checked(assignments).argmax(1).unique()) / min(assignments.shape)


@torch.no_grad()
def prototype_entropy(assignments: Tensor) -> float:
    """Entropy of the mean assignment, divided by ln K: how evenly a batch is spread over the prototypes.

    Centering in DINO prevents it from falling to 0, where one prototype takes all images (Caron et al. 2021,
    arXiv:2104.14294, section 5.3).

    Args:
        assignments: (N, K), K >= 2, each row a distribution over the prototypes.

    Returns:
        A value in [0, 1]; at most ln N / ln K if each image is assigned to a single prototype.

    Raises:
        ValueError: The assignments are not a finite float matrix (N, K) with K >= 2.
    """
    mean = _checked(assignments).double().mean(0)
    return float(torch.special.entr(mean).sum()) / math.log(len(mean))


@torch.no_grad()
def assignment_entropy(assignments: Tensor) -> float:
    """Entropy of each image's assignment, divided by ln K and averaged: how uncertain the assignments are.

    Sharpening in DINO prevents it from rising to 1, a uniform assignment of every image (Caron et al. 2021,
    arXiv:2104.14294, section 5.3 and figure 7).

    Args:
        assignments: (N, K), K >= 2, each row a distribution over the prototypes.

    Returns:
        A value in [0, 1].

    Raises:
        ValueError: The assignments are not a finite float matrix (N, K) with K >= 2.
    """
    rows = _checked(assignments).double()
    return float(torch.special.entr(rows).sum(1).mean()) / math.log(rows.shape[1])


def _checked(assignments: Tensor) -> Tensor:
    shape = tuple(assignments.shape)
    if assignments.ndim != 2 or not assignments.is_floating_point() or not shape[0] or shape[1] < 2:
        raise ValueError(f"assignments must be floats (N, K) with K >= 2, got {assignments.dtype} of shape {shape}")
    check_finite("assignments", assignments)
    return assignments
