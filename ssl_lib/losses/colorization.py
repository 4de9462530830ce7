"""Colorization loss: cross-entropy of soft color classes, in which rare colors weigh more."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lib.losses._common import check_pair, upcast, without_autocast

__all__ = ["ColorizationLoss"]


class ColorizationLoss(nn.Module):
    """Class-rebalanced cross-entropy (Zhang et al. 2016, arXiv:1603.08511, equations 2 to 4).

    For logits z and target probabilities q over K classes:

        L = mean over points of  w[argmax q] * CE(q, softmax(z)),   w = 1 / ((1 - u) p + u / K),   sum_k p_k w_k = 1

    p are the frequencies of the classes. The reference (caffe_traininglayers.py) applies w to the gradient alone, which
    is the gradient of this loss.

    Args:
        num_classes: Number of classes K.
        uniform: Weight u of the uniform distribution in the class weights, in [0, 1]; 1 weighs all classes alike.

    Attributes:
        weights: Weights w (K,); 1 before `rebalance`.

    Raises:
        ValueError: An argument is out of range.
    """

    weights: Tensor

    def __init__(self, num_classes: int, uniform: float = 0.5) -> None:
        super().__init__()
        if num_classes < 1 or not 0 <= uniform <= 1:
            raise ValueError(f"num_classes must be positive and uniform in [0, 1], got {num_classes} and {uniform}")
        self.uniform = uniform
        self.register_buffer("weights", torch.ones(num_classes))

    @torch.no_grad()
    def rebalance(self, frequencies: Tensor) -> None:
        """Computes the class weights from the frequencies (K,) of the classes, which are normalized to a sum of 1.

        Frequencies that are all 0 give equal weights. A class of frequency 0 needs `uniform` above 0, or gets the
        weight of the rarest one.
        """
        total = frequencies.double().sum()
        if total > 0:
            p = frequencies.double() / total
            mixed = (1 - self.uniform) * p + self.uniform / len(p)
            weights = 1 / mixed.clamp_min(mixed[mixed > 0].min())
            self.weights.copy_(weights / (p * weights).sum())
        else:
            self.weights.fill_(1)

    def forward(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """Computes the loss.

        Args:
            logits: (P, K) for P points.
            targets: Probabilities (P, K), without gradient.
            mask: Weights (P,) of the points; 0 leaves a point out, though it counts in the mean. None is all 1.

        Returns:
            Scalar >= 0. All processes must have the same number of points, so that the average of their losses is the
            mean over all points.
        """
        check_pair(logits, targets, ("logits", "targets"), min_batch=1)
        with without_autocast(logits):
            logits, targets = upcast(logits, targets.detach())
            weights = self.weights.to(logits)[targets.argmax(1)]
            if mask is not None:
                weights = weights * mask
            return -(weights * (targets * logits.log_softmax(1)).sum(1)).mean()
