"""Prototype scattering loss of ProPos: contrasts the mean embeddings of clusters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lib.distributed import gather
from ssl_lib.losses._common import check_pair, check_positive, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["ProPosLoss"]

_EMPTY = -10.0
"""Logit of a cluster without images in the batch, as in the reference."""


class ProPosLoss(nn.Module):
    """InfoNCE between the clusters' mean embeddings of two views: each cluster is a class.

    Source: Huang et al. 2022 (arXiv:2111.11821, equation 4); Hzzone/ProPos, models/propos/byol_wrapper.py. The positive
    of a cluster's mean of the queries is its mean of the keys; the negatives are the other clusters' means of the
    queries. Means are taken over the images of all processes and of the queue, and have unit length.

    Args:
        num_clusters: Number of clusters K, at least 2.
        temperature: Divides the similarities, > 0.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, num_clusters: int, temperature: float = 0.5) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        if num_clusters < 2:
            raise ValueError(f"num_clusters must be at least 2, got {num_clusters}")
        self.num_clusters, self.temperature = num_clusters, temperature

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        labels: Tensor,
        queue: Tensor | None = None,
        queue_labels: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss of queries and keys (N, D); rows need not be normalized.

        Args:
            query: Embeddings of one view.
            key: Embeddings of the other view. Gets no gradient.
            labels: Index of each image's cluster (N,), int64; -100 leaves an image out.
            queue: Earlier keys (Q, D) of unit length, the same in all processes, which enter both means.
            queue_labels: Clusters of the earlier keys (Q,).

        Returns:
            Scalar >= 0, averaged over the clusters with images, the same in all processes; 0 if there are none. Its
            gradient flows to the queries of all processes.

        Raises:
            ValueError: The shapes do not match, or a queue has no labels.
        """
        check_pair(query, key, ("query", "key"), min_batch=1)
        rows_of_queue = [0 if x is None else len(x) for x in (queue, queue_labels)]
        if labels.shape != query.shape[:1] or rows_of_queue[0] != rows_of_queue[1]:
            raise ValueError(
                "every query and every row of the queue must have a label, got "
                f"{len(query)} and {rows_of_queue[0]} rows, labels {tuple(labels.shape)} and {rows_of_queue[1]}"
            )
        with without_autocast(query):
            query, key = map(unit_rows, upcast(query, key.detach()))
            rows = torch.stack((gather(query), gather(key)))  # (2, B, D)
            labels = gather(labels)
            if queue is not None and queue_labels is not None:
                rows = torch.cat((rows, queue.to(rows).expand(2, -1, -1)), 1)
                labels = torch.cat((labels, queue_labels.to(labels)))
            members = labels == torch.arange(self.num_clusters, device=labels.device)[:, None]  # (K, B)
            means_q, means_k = unit_rows(members.to(rows) @ rows)
            logits = means_q @ means_q.T
            logits = torch.diagonal_scatter(logits, (means_q * means_k).sum(1)) / self.temperature
            present = members.any(1)
            losses = F.cross_entropy(
                logits.masked_fill(~present, _EMPTY), torch.arange(len(logits), device=logits.device), reduction="none"
            )
            return (losses * present).sum() / present.sum().clamp_min(1)
