"""Cross-entropy with class indices, in at least float32."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ssl_lib.distributed import all_reduce_sum, world_size
from ssl_lib.losses._common import upcast, without_autocast

__all__ = ["cross_entropy"]

IGNORED = -100
"""The target of rows that have none."""


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Computes the mean cross-entropy, under any autocast in at least float32.

    Args:
        logits: (N, K).
        targets: Class indices (N,), int64; -100 leaves a row out.
        weights: Factor (K,) of the rows of each class; None is 1.

    Returns:
        Scalar >= 0: the mean over the rows of all processes that have a target, so that their average is the mean of
        the joined batch. It is 0 if no row has a target.
    """
    with without_autocast(logits):
        (logits,) = upcast(logits)
        factors = None if weights is None else weights.to(logits)
        total = F.cross_entropy(logits, targets, factors, ignore_index=IGNORED, reduction="sum")
        count = all_reduce_sum((targets != IGNORED).sum().to(total)) / world_size()
        return total / count.clamp_min(1 / world_size())
