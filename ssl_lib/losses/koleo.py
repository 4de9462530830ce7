"""KoLeo regularizer: spreads embeddings uniformly by their distance to the nearest neighbor."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lib.distributed import gather, rank
from ssl_lib.losses._common import check_pair, upcast, without_autocast
from ssl_lib.registry import REGULARIZERS
from ssl_lib.utils.rows import unit_rows

__all__ = ["KoLeoLoss"]

_EPS = 1e-8  # part of the value, as in the reference


@REGULARIZERS.register("koleo")
class KoLeoLoss(nn.Module):
    """Negative mean logarithm of the distance to the nearest other embedding (Kozachenko-Leonenko entropy estimate).

    Source: Sablayrolles et al. 2018 (arXiv:1806.03198, equation 2); facebookresearch/dinov2, dinov2/loss/koleo_loss.py,
    which weights it by 0.1. The nearest embedding is searched among those of all processes. Two views of one image
    must not be in one call: they would be pushed apart.
    """

    def forward(self, embeddings: Tensor) -> Tensor:
        """Computes the loss of embeddings (N, D), one per image; rows need not be normalized.

        Returns:
            Scalar, averaged over this process's images.

        Raises:
            ValueError: The embeddings are not a float matrix, or the global batch has fewer than 2 images.
        """
        check_pair(embeddings, embeddings, ("embeddings", "embeddings"))
        with without_autocast(embeddings):
            (x,) = upcast(embeddings)
            x = unit_rows(x)
            keys = gather(x)
            with torch.no_grad():
                similarities = x @ keys.T
                similarities.diagonal(rank() * len(x)).fill_(-2)
                nearest = similarities.argmax(1)
            distances = F.pairwise_distance(x, keys[nearest], eps=_EPS)
            return -(distances + _EPS).log().mean()
