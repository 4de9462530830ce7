"""Weighted k-nearest-neighbour classification."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["knn_accuracy", "knn_scores"]


@torch.no_grad()
def knn_scores(
    queries: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> Tensor:
    """Votes of the k most similar bank images, weighted by exp(cosine / temperature).

    Source: DINO's evaluation (facebookresearch/dino, eval_knn.py); Wu et al. 2018, arXiv:1805.01978, section 3.4.

    Args:
        queries: (Q, D); normalised here.
        bank: (B, D); normalised here.
        bank_labels: (B,) class indices in [0, num_classes).
        num_classes: > 0.
        k: Neighbours, at most B.
        temperature: > 0.

    Returns:
        (Q, num_classes) scores, >= 0; the weights are divided by exp(1 / temperature), so that none overflows.

    Raises:
        ValueError: Shapes do not fit, k is not in [1, B] or the temperature is not above 0.
    """
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(f"queries (Q, D) and bank (B, D) do not fit: {tuple(queries.shape)} and {tuple(bank.shape)}")
    if bank_labels.shape != bank.shape[:1]:
        raise ValueError(f"bank_labels must be ({len(bank)},), got {tuple(bank_labels.shape)}")
    if not 1 <= k <= len(bank):
        raise ValueError(f"k must lie in [1, {len(bank)}], the size of the bank; got {k}")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    queries, bank = F.normalize(queries, dim=1), F.normalize(bank, dim=1)
    scores = queries.new_zeros(len(queries), num_classes)
    rows = max(1, 2**25 // len(bank))  # bounds the similarities held at a time to 128 MiB
    for start in range(0, len(queries), rows):
        similarity, neighbours = (queries[start : start + rows] @ bank.T).topk(k, dim=1)  # (rows, k)
        weights = ((similarity - 1) / temperature).exp()
        scores[start : start + rows].scatter_add_(1, bank_labels[neighbours], weights)
    return scores


def knn_accuracy(
    queries: Tensor,
    query_labels: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Share of the queries, in [0, 1], whose highest score of `knn_scores` is their own class."""
    scores = knn_scores(queries, bank, bank_labels, num_classes, k, temperature)
    return (scores.argmax(1) == query_labels).double().mean().item()
