"""Sinkhorn-Knopp: assignments of a batch to prototypes, of which each gets the same share."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lib.distributed import all_reduce_sum, gather, is_distributed
from ssl_lib.losses._common import upcast, without_autocast

__all__ = ["sinkhorn"]


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Assigns images to prototypes by their scores, with equal shares of all prototypes in the joined batch.

    Source: Caron et al. 2020 (arXiv:2006.09882, equation 4 and appendix A); facebookresearch/swav, main_swav.py,
    `distributed_sinkhorn`. It is computed with logarithms, so scores of any size neither overflow nor underflow.

    Args:
        scores: Similarities (N, K) of the images of this process.
        epsilon: Temperature, > 0; smaller gives sharper assignments.
        iterations: Number of rounds, >= 1; each gives the prototypes equal shares, then each image a sum of 1.

    Returns:
        Probabilities (N, K), without gradient; each row sums to 1.
    """
    with without_autocast(scores):
        (logs,) = upcast(scores / epsilon)
        for _ in range(iterations):
            logs = logs - _batch_logsumexp(logs)
            logs = logs.log_softmax(1)
        return logs.exp()


def _batch_logsumexp(x: Tensor) -> Tensor:
    """Log of the sum of exp(x) over the rows of all processes: (N, K) -> (1, K)."""
    top = x.amax(0, keepdim=True)
    if is_distributed():
        top = gather(top).amax(0, keepdim=True)
    return top + all_reduce_sum((x - top).exp().sum(0, keepdim=True)).log()
