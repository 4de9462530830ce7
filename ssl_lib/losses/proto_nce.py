"""ProtoNCE loss of PCL: identifies the prototype of an image's cluster, at several granularities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_lib.distributed import gather, rank
from ssl_lib.losses._common import check_pair, check_positive, upcast, without_autocast
from ssl_lib.losses.cross_entropy import IGNORED, cross_entropy
from ssl_lib.utils.rows import part_rows, unit_rows

__all__ = ["ProtoNCELoss", "concentration", "other_prototypes"]


class ProtoNCELoss(nn.Module):
    """Cross-entropy of a query's cosine similarities with prototypes, each divided by its own temperature.

    Source: Li et al. 2020 (arXiv:2005.04966, equation 11 without its first term, which is `InfoNCELoss`);
    salesforce/PCL, pcl/builder.py and main_pcl.py. Only the queries have a gradient.
    """

    def forward(
        self,
        query: Tensor,
        prototypes: Sequence[Tensor],
        assignments: Sequence[Tensor],
        temperatures: Sequence[Tensor],
        negatives: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Computes the loss; the sequences have an entry per clustering.

        Args:
            query: Embeddings (N, D); rows need not be normalized.
            prototypes: (K, D), unit length.
            assignments: Index of each query's cluster (N,), int64; -100 leaves a query out.
            temperatures: Temperature of each prototype (K,), > 0; see `concentration`.
            negatives: Indices of prototypes (R,), the same in all processes. A query is then compared with these and
                with the prototypes of all images of the joined batch, a prototype counting once per image, as in the
                reference. None compares it with all K prototypes.

        Returns:
            Scalar >= 0, averaged over the queries with a cluster of all processes, and over the clusterings.

        Raises:
            ValueError: The shapes do not match, or there is no clustering.
        """
        check_pair(query, query, ("query", "query"), min_batch=1)
        drawn = [None] * len(prototypes) if negatives is None else list(negatives)
        if not prototypes or {len(prototypes)} != {len(assignments), len(temperatures), len(drawn)}:
            raise ValueError(
                "prototypes, assignments, temperatures and negatives must have an entry per clustering, got "
                f"{[len(x) for x in (prototypes, assignments, temperatures, drawn)]}"
            )
        with without_autocast(query):
            query = unit_rows(upcast(query)[0])
            clusterings = zip(prototypes, assignments, temperatures, drawn, strict=True)
            return torch.stack([_loss(query, *clustering) for clustering in clusterings]).mean()


def _loss(query: Tensor, prototypes: Tensor, places: Tensor, temperatures: Tensor, drawn: Tensor | None) -> Tensor:
    if places.shape != query.shape[:1] or prototypes.shape != (len(temperatures), query.shape[1]):
        raise ValueError(
            "expected query (N, D), prototypes (K, D), assignments (N,) and temperatures (K,), got "
            f"{[tuple(x.shape) for x in (query, prototypes, places, temperatures)]}"
        )
    targets = places
    if drawn is not None:
        selected = torch.cat((gather(places).clamp_min(0), drawn.to(places.device)))
        prototypes, temperatures = prototypes[selected], temperatures[selected]
        own = rank() * len(query) + torch.arange(len(query), device=places.device)
        targets = torch.where(places == IGNORED, IGNORED, own)
    return cross_entropy(query @ prototypes.to(query).T / temperatures.to(query), targets)


def other_prototypes(orders: Sequence[Tensor], assignments: Sequence[Tensor], count: int) -> list[Tensor]:
    """Draws prototypes that are not of the joined batch's images, as negatives of `ProtoNCELoss`.

    Args:
        orders: Per clustering, a number in [0, 1) for each prototype (K,), the same in all processes.
        assignments: Index of the prototype of each image of this process (N,), int64; -100 is left out.
        count: Number of prototypes.

    Returns:
        Per clustering, the indices of the prototypes with the smallest numbers (R,), the smaller of count and K. If too
        few prototypes are left, those of the batch are among them.
    """
    drawn = []
    for order, places in zip(orders, assignments, strict=True):
        taken = gather(places)
        order = order.to(taken.device).index_add(0, taken.clamp_min(0), (taken != IGNORED).to(order.dtype))
        drawn.append(order.argsort()[:count])
    return drawn


@torch.no_grad()
def concentration(features: Tensor, centroids: Tensor, assignments: Tensor, temperature: float) -> Tensor:
    """Temperatures of clusters: large for loose clusters of few images, with a given mean.

    Source: Li et al. 2020 (arXiv:2005.04966, equation 12 with alpha = 10); salesforce/PCL, main_pcl.py. phi is the mean
    distance of the cluster's images to the centroid, divided by ln(images + 10). Clusters of at most one image get the
    largest phi. All are clipped to their 10th and 90th percentile and scaled to the mean `temperature`.

    Args:
        features: (M, D).
        centroids: (K, D).
        assignments: Index of each image's cluster (M,), int64.
        temperature: Mean of the result, > 0.

    Returns:
        (K,), > 0; `temperature` for all clusters if no cluster has images at different places.

    Raises:
        ValueError: The temperature is not positive.
    """
    check_positive("temperature", temperature)
    sums, counts = torch.zeros_like(centroids[:, 0]), torch.zeros_like(centroids[:, 0])
    rows = part_rows(features)
    for part, places in zip(features.split(rows), assignments.split(rows), strict=True):
        distances = torch.linalg.vector_norm(part - centroids[places], dim=1)
        sums.index_add_(0, places, distances)
        counts.index_add_(0, places, torch.ones_like(distances))
    phi = sums / counts.clamp_min(1) / (counts + 10).log()
    phi = torch.where(counts > 1, phi, phi.masked_fill(counts <= 1, 0).amax())
    low, high = torch.quantile(phi, phi.new_tensor([0.1, 0.9]))
    phi = phi.clamp(low, high)
    mean = phi.mean()
    return torch.where(mean > 0, temperature * phi / mean, torch.full_like(phi, temperature))
