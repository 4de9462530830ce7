"""Measures without labels: how images are shared out among prototypes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["assignment_entropy", "prototype_entropy", "prototype_usage"]


@torch.no_grad()
def prototype_usage(assignments: Tensor) -> float:
    """The share of the prototypes that are the first choice of an image.

    Args:
        assignments: (N, K), each row a distribution over the prototypes.

    Returns:
        In (0, 1], the number of prototypes chosen over min(N, K); about 0.63 for K = N and choices at random.

    Raises:
        ValueError: The assignments are no (N, K).
    """
    return len(_checked(assignments).argmax(1).unique()) / min(assignments.shape)


@torch.no_grad()
def prototype_entropy(assignments: Tensor) -> float:
    """The entropy of the mean assignment over ln K: how evenly the batch as a whole is spread over the prototypes.

    DINO's centring keeps it from falling to 0, one prototype for all images (Caron et al. 2021, arXiv:2104.14294,
    section 5.3).

    Args:
        assignments: (N, K), K at least 2, each row a distribution over the prototypes.

    Returns:
        In [0, 1]; at most ln N / ln K where each image chooses one prototype only.

    Raises:
        ValueError: The assignments are no (N, K).
    """
    mean = _checked(assignments).double().mean(0)
    return float(torch.special.entr(mean).sum()) / math.log(len(mean))


@torch.no_grad()
def assignment_entropy(assignments: Tensor) -> float:
    """The mean over the images of their assignment's entropy over ln K: how undecided each is.

    DINO's sharpening keeps it from rising to 1, all prototypes for every image (Caron et al. 2021, arXiv:2104.14294,
    section 5.3 and figure 7).

    Args:
        assignments: (N, K), K at least 2, each row a distribution over the prototypes.

    Returns:
        In [0, 1].

    Raises:
        ValueError: The assignments are no (N, K).
    """
    rows = _checked(assignments).double()
    return float(torch.special.entr(rows).sum(1).mean()) / math.log(rows.shape[1])


def _checked(assignments: Tensor) -> Tensor:
    shape = tuple(assignments.shape)
    if assignments.ndim != 2 or not assignments.is_floating_point() or not shape[0] or shape[1] < 2:
        raise ValueError(f"assignments must be floats (N, K) with K >= 2, got {assignments.dtype} of shape {shape}")
    return assignments
