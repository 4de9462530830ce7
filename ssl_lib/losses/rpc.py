"""Relative predictive coding (RPC): a contrastive loss without logarithms and exponentials."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lib.distributed import gather, rank
from ssl_lib.losses._common import check_pair, check_positive, check_weight, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["RPCLoss"]


class RPCLoss(nn.Module):
    """Negative estimate of the Chi-squared divergence between positive pairs and a mixture with negative pairs.

    -(mean(s - beta s^2 / 2) over the positives - mean(alpha s + gamma s^2 / 2) over the negatives), with similarities
    s divided by the temperature. Source: Tsai et al. 2021 (arXiv:2103.11275);
    martinmamql/relative_predictive_coding, vision/objective.py, `loss_type="chi"`. An anchor has 2N - 2 negatives: both
    views of the other images of all processes.

    Args:
        temperature: Divides the similarities, > 0.
        alpha: Weight of the negatives' similarities, >= 0.
        beta: Weight of the positives' squared similarities, >= 0.
        gamma: Weight of the negatives' squared similarities, >= 0. beta + gamma must be > 0.
        normalize: Whether the similarities are cosines; otherwise they are dot products.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        alpha: float = 0.3,
        beta: float = 0.001,
        gamma: float = 0.1,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            check_weight(name, value)
        check_positive("beta + gamma", beta + gamma)
        self.temperature, self.normalize = temperature, normalize
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Computes the loss from the embeddings of two views, both (N, D).

        Returns:
            Scalar, averaged over this process's 2N anchors. A constant similarity gives at best
            -(1 - alpha)^2 / (2 (beta + gamma)).

        Raises:
            ValueError: The views are not float matrices of the same shape, or the global batch has fewer than 2 images.
        """
        check_pair(z_a, z_b)
        with without_autocast(z_a):
            z_a, z_b = upcast(z_a, z_b)
            if self.normalize:
                z_a, z_b = unit_rows(z_a), unit_rows(z_b)
            positives = (z_a * z_b).sum(1) / self.temperature  # (N,)
            anchors = torch.cat((z_a, z_b))  # (2N, D)
            scores = anchors / self.temperature @ gather(anchors).T
            own = rank() * len(anchors) + torch.arange(len(anchors), device=anchors.device)
            negatives = scores.scatter(1, torch.stack((own, own.roll(len(z_a))), 1), 0.0)
            count = scores.shape[1] - 2  # per anchor
            attraction = positives - self.beta / 2 * positives.square()
            repulsion = self.alpha * negatives + self.gamma / 2 * negatives.square()
            return repulsion.sum(1).mean() / count - attraction.mean()
