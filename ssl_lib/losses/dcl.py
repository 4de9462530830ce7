"""Decoupled contrastive loss (DCL): NT-Xent without the positive in the denominator; DCLW also weights positives."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_lib.distributed import gather, rank
from ssl_lib.losses._common import check_pair, check_positive, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["DCLLoss"]


class DCLLoss(nn.Module):
    """NT-Xent whose softmax is over the negatives only, so that easy positives do not reduce the gradient.

    Source: Yeh et al. 2021 (arXiv:2110.06848, equation 6); raminnakhli/Decoupled-Contrastive-Learning,
    loss/dcl.py, which sums both directions and so gives twice this mean. With `sigma` it is DCLW: the positive of an
    image is weighted by 2 - N softmax(cos / sigma) over the N images of the batch, which is small for an easy positive.
    As in that code, the weights have a gradient. Negatives and weights come from all processes.

    Args:
        temperature: Divides the cosine similarities, > 0.
        sigma: Temperature of the weights, > 0; 0.5 in the paper. None weights all positives by 1.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, temperature: float = 0.1, sigma: float | None = None) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        check_positive("sigma", 1.0 if sigma is None else sigma)
        self.temperature, self.sigma = temperature, sigma

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Computes the loss from the embeddings of two views, both (N, D); rows need not be normalized.

        Returns:
            Scalar, averaged over this process's 2N anchors. Chance level is log(2N - 2), with N the global batch.

        Raises:
            ValueError: The views are not float matrices of the same shape, or the global batch has fewer than 2 images.
        """
        check_pair(z_a, z_b)
        with without_autocast(z_a):
            z_a, z_b = map(unit_rows, upcast(z_a, z_b))
            positives = (z_a * z_b).sum(1)  # (N,)
            anchors = torch.cat((z_a, z_b))  # (2N, D)
            scores = anchors / self.temperature @ gather(anchors).T
            own = rank() * len(anchors) + torch.arange(len(anchors), device=anchors.device)
            image = torch.stack((own, own.roll(len(z_a))), 1)  # both views of the anchor's image
            negatives = scores.scatter(1, image, -math.inf).logsumexp(1)
            if self.sigma is None:
                return negatives.mean() - positives.mean() / self.temperature
            logits = gather(positives) / self.sigma
            weights = 2 - len(logits) * (positives / self.sigma - logits.logsumexp(0)).exp()
            return negatives.mean() - (weights * positives).mean() / self.temperature
