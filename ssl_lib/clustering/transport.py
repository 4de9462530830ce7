"""Labels of all training images by optimal transport to clusters of the same size."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["transport_plan"]


@torch.no_grad()
def transport_plan(scores: Tensor, sharpness: float, tolerance: float = 0.1, max_rounds: int = 1000) -> Tensor:
    """Optimal transport of images to clusters of the same size, smoothed by entropy (Sinkhorn-Knopp), in float64.

    Source: Asano et al. 2020 (arXiv:1911.05371, section 3); yukimasano/self-label, sinkhornknopp.py, which
    raises probabilities to the power `sharpness`. Here each row and column is divided by its maximum first, which
    changes the scaling factors but not the plan, and keeps the powers from underflowing.

    Args:
        scores: Log-probabilities (N, K) or logits of all images.
        sharpness: Factor of the scores relative to the entropy, > 0.
        tolerance: The rounds end when the images' scaling factors change by less than this, relative and in total.
        max_rounds: Maximum number of rounds.

    Returns:
        Plan (N, K), float64: rows sum to 1 / N, and columns to 1 / K up to the tolerance.
    """
    plan = scores.double() * sharpness
    plan -= plan.amax(1, keepdim=True)
    plan -= plan.amax(0, keepdim=True)
    plan.exp_()
    count, clusters = plan.shape
    images = plan.new_full((count,), 1 / count)
    of_clusters = images
    for _ in range(max_rounds):
        of_clusters = 1 / (clusters * (images @ plan))
        before, images = images, 1 / (count * (plan @ of_clusters))
        if (before / images - 1).abs().sum() < tolerance:
            break
    return plan.mul_(of_clusters).mul_(images[:, None])
