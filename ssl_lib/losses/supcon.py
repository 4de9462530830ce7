"""Supervised contrastive loss (SupCon): views of all images of the same class are positives."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_lib.distributed import gather, rank, world_size
from ssl_lib.losses._common import check_positive, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["SupConLoss"]


class SupConLoss(nn.Module):
    """Mean negative log-probability of all positives among all other views of the batch.

    Source: Khosla et al. 2020 (arXiv:2004.11362, equation 2); HobbitLong/SupContrast, losses.py. Without labels it is
    NT-Xent. Keys come from all processes.

    Args:
        temperature: Divides the cosine similarities, > 0.
        base_temperature: The loss is multiplied by `temperature / base_temperature`, > 0, as in the reference, where it
            is 0.07; None leaves the factor out, as in the paper.
        contrast_mode: "all" takes every view as an anchor, "one" the first view of each image.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        base_temperature: float | None = None,
        contrast_mode: Literal["all", "one"] = "all",
    ) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        check_positive("base_temperature", 1.0 if base_temperature is None else base_temperature)
        if contrast_mode not in ("all", "one"):
            raise ValueError(f"contrast_mode must be 'all' or 'one', got {contrast_mode!r}")
        self.temperature, self.base_temperature, self.contrast_mode = temperature, base_temperature, contrast_mode

    def forward(self, features: Tensor, labels: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Computes the loss of the embeddings of V views of N images; rows need not be normalized.

        Args:
            features: Embeddings (N, V, D).
            labels: Classes (N,). Images of the same class, in all processes, are positives of each other.
            mask: Positives (N, M) in place of labels, for this process's N images and the M images of all processes in
                rank order: not 0 if the second image is a positive of the first. Weights other than 0 and 1 are
                allowed. Without labels and mask, the positives are the other views of the same image.

        Returns:
            Scalar >= 0, averaged over this process's anchors. An anchor without positives counts as 0. Chance level is
            the log of the number of other views, if every anchor has a positive.

        Raises:
            ValueError: A shape is wrong, both labels and mask are given, or the global batch has a single view.
        """
        _check(features, labels, mask)
        used = slice(1 if self.contrast_mode == "one" else None)  # views whose embeddings are anchors
        with without_autocast(features):
            x = unit_rows(upcast(features)[0])
            keys = gather(x).flatten(0, 1)  # (W * N * V, D), with the views of an image next to each other
            scores = x[:, used].flatten(0, 1) @ keys.T / self.temperature  # (A, W * N * V)
            places = rank() * x[..., 0].numel() + torch.arange(x[..., 0].numel(), device=x.device).view(x.shape[:2])
            itself = places[:, used].reshape(-1, 1)
            log_probabilities = scores.scatter(1, itself, -math.inf).log_softmax(1).scatter(1, itself, 0.0)
            weights = _positives(x, labels, mask).repeat_interleave(len(scores) // len(x), 0)
            weights = weights.repeat_interleave(x.shape[1], 1).scatter(1, itself, 0.0)
            totals = weights.sum(1)
            per_anchor = (weights * log_probabilities).sum(1) / totals.masked_fill(totals == 0, 1.0)
            factor = 1.0 if self.base_temperature is None else self.temperature / self.base_temperature
            return -factor * per_anchor.mean()


def _positives(x: Tensor, labels: Tensor | None, mask: Tensor | None) -> Tensor:
    """Weights (N, M) of the images of all processes as positives of this process's images."""
    if mask is not None:
        return mask.to(x)
    if labels is None:
        labels = rank() * len(x) + torch.arange(len(x), device=x.device)
    labels = labels.to(x.device)
    return (labels[:, None] == gather(labels)).to(x)


def _check(features: Tensor, labels: Tensor | None, mask: Tensor | None) -> None:
    if features.ndim != 3 or not features.is_floating_point():
        raise ValueError(
            f"features must be a float tensor of shape (N, V, D), got {features.dtype} of shape {tuple(features.shape)}"
        )
    if labels is not None and mask is not None:
        raise ValueError("give labels or mask, not both")
    count, total = len(features), len(features) * world_size()
    for name, value, shape in (("labels", labels, (count,)), ("mask", mask, (count, total))):
        if value is not None and value.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    if total * features.shape[1] < 2:
        raise ValueError(f"the batch must contain at least 2 views, got features of shape {tuple(features.shape)}")
