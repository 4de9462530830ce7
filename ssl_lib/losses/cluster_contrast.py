"""Cluster-level loss of Contrastive Clustering: contrasts the columns of two matrices of cluster probabilities."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lib.distributed import gather
from ssl_lib.losses._common import check_pair, check_positive, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["ClusterContrastLoss"]


class ClusterContrastLoss(nn.Module):
    """Identifies the other view of the same cluster among the clusters of both views, and keeps all clusters in use.

    Source: Contrastive Clustering (Li et al. 2021, arXiv:2009.09687, equations 4 to 6);
    Yunfan-Li/Contrastive-Clustering, modules/contrastive_loss.py. A cluster is the column of its probabilities over the
    images of all processes. An empty cluster adds nothing to the entropy, where the reference gives NaN.

    Args:
        temperature: Divides the cosine similarities of columns, > 0.

    Raises:
        ValueError: The temperature is not positive.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = temperature

    def forward(self, p_a: Tensor, p_b: Tensor) -> Tensor:
        """Computes the loss from the cluster probabilities of two views, both (N, K); rows sum to 1.

        Returns:
            Scalar: NT-Xent over the 2K columns, plus log K minus the entropy of the mean probabilities of each view. It
            is the same in all processes. Identical columns give log(2K - 1), or 0 for one cluster.

        Raises:
            ValueError: The views are not float matrices of the same shape, or the global batch has fewer than 2 images.
        """
        check_pair(p_a, p_b, ("p_a", "p_b"))
        with without_autocast(p_a):
            views = [gather(p) for p in upcast(p_a, p_b)]  # (B, K)
            columns = unit_rows(torch.cat(views, 1).T)  # (2K, B)
            scores = columns / self.temperature @ columns.T
            scores.fill_diagonal_(-math.inf)
            partners = torch.arange(len(columns), device=columns.device).roll(p_a.shape[1])
            return F.cross_entropy(scores, partners) + _missing_entropy(views[0]) + _missing_entropy(views[1])


def _missing_entropy(p: Tensor) -> Tensor:
    """Log K minus the entropy of the clusters' shares of the probabilities (B, K)."""
    shares = p.sum(0) / p.sum()
    return math.log(len(shares)) + (shares * shares.clamp_min(torch.finfo(p.dtype).tiny).log()).sum()
