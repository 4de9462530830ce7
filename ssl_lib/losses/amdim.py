"""Contrastive loss of AMDIM and YADIM: InfoNCE of dot products that are softly clipped."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lib.distributed import gather, rank
from ssl_lib.losses._common import check_pair, check_positive, check_weight, upcast, without_autocast

__all__ = ["AMDIMLoss"]


class AMDIMLoss(nn.Module):
    """Identifies the other view of an image among that view of all images, by dot products, in both directions.

    Source: Bachman et al. 2019 (arXiv:1906.00910); Lightning-Universe/lightning-bolts,
    pl_bolts/losses/self_supervised_learning.py, `AmdimNCELoss` for one feature vector per image. The scores are dot
    products divided by sqrt(D) and clipped to [-clip, clip] by a tanh. The mean square of the unclipped scores is added
    with weight `penalty`. Keys come from all processes.

    Args:
        clip: Largest absolute score, > 0.
        penalty: Weight of the squared scores, >= 0.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, clip: float = 10.0, penalty: float = 0.05) -> None:
        super().__init__()
        check_positive("clip", clip)
        check_weight("penalty", penalty)
        self.clip, self.penalty = clip, penalty

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Computes the loss from the embeddings of two views, both (N, D).

        Returns:
            Scalar >= 0, averaged over this process's 2N anchors. Chance level is log(N), with N the global batch.

        Raises:
            ValueError: The views are not float matrices of the same shape, or the global batch has fewer than 2 images.
        """
        check_pair(z_a, z_b)
        with without_autocast(z_a):
            z_a, z_b = upcast(z_a, z_b)
            return (self._direction(z_a, z_b) + self._direction(z_b, z_a)) / 2

    def _direction(self, anchors: Tensor, keys: Tensor) -> Tensor:
        scores = anchors @ gather(keys).T / math.sqrt(anchors.shape[1])
        positives = rank() * len(anchors) + torch.arange(len(anchors), device=anchors.device)
        clipped = self.clip * (scores / self.clip).tanh()
        return F.cross_entropy(clipped, positives) + self.penalty * scores.square().mean()
