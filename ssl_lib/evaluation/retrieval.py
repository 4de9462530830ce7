"""Image retrieval with frozen features: recall@k and mean average precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lib.distributed import gather_uneven, share
from ssl_lib.evaluation.base import EvaluatedEncoder, Scores
from ssl_lib.evaluation.features import progress
from ssl_lib.evaluation.knn import bank_neighbors
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric
from ssl_lib.utils.rows import check_finite, float_type, part_rows, row_norms, unit_rows

__all__ = ["Retrieval", "average_precision", "recall_at"]


@PROTOCOLS.register("retrieval")
@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Retrieves training images of the same class for each test image, by cosine similarity.

    Recall@k is defined as in deep metric learning (Song et al. 2016, arXiv:1511.06452, section 6), see `recall_at`.
    Mean average precision uses the ranking of all training images, see `average_precision`. Test images whose class has
    no training image are excluded and counted in the details.

    Attributes:
        k: Numbers of retrieved images for recall@k.
        full_ranking: Whether to rank all training images for every test image, which mean average precision needs. This
            is the slow part with a million training images.
    """

    k: tuple[int, ...] = (1, 5, 10)
    full_ranking: bool = True

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    @property
    def measures(self) -> Sequence[Metric]:
        """Recall@k for every k and mean average precision; the first recall is the main metric."""
        recalls = [Metric(f"recall_{k}", f"recall@{k}", main=k == self.k[0]) for k in self.k]
        return [*recalls, *([Metric("map", "retrieval mAP", main=False)] if self.full_ranking else [])]

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError if `k` is larger than the number of labeled training images."""
        if max(self.k) > len(bank_labels):
            raise ValueError(f"retrieval.k {max(self.k)} is more than the {len(bank_labels)} labeled training images")

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Computes the metrics with the test images split over the processes."""
        f = subject.features
        check_finite("queries", f.queries)  # all of them: an error must be the same in every process
        findable = torch.isin(f.query_labels, f.bank_labels)
        queries, labels = share(f.queries[findable]), share(f.query_labels[findable])
        details = {"queries": int(findable.sum()), "without_a_match": int((~findable).sum())}
        if not findable.any():
            return Scores({}, details)
        title = f"{subject.title}: retrieval"
        places = bank_neighbors(queries, f.bank, max(self.k), device=subject.device, title=title)[1]
        scores = {f"recall_{k}": recall_at(k, f.bank_labels[places], labels) for k in self.k}
        if self.full_ranking:
            scores["map"] = average_precision(
                queries, labels, f.bank, f.bank_labels, device=subject.device, title=title
            )
        return Scores({key: gather_uneven(each.double()).mean().item() for key, each in scores.items()}, details)


def recall_at(k: int, neighbor_labels: Tensor, labels: Tensor) -> Tensor:
    """Whether at least one of the k nearest images has the class of the query.

    Ties at rank k are broken arbitrarily.

    Args:
        k: At most K.
        neighbor_labels: (Q, K) classes of the nearest images, nearest first.
        labels: (Q,) classes of the queries.

    Returns:
        (Q,) bool; the mean is recall@k.
    """
    return (neighbor_labels[:, :k] == labels.unsqueeze(1)).any(1)


@torch.no_grad()
def average_precision(
    queries: Tensor,
    query_labels: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    *,
    device: torch.device | None = None,
    title: str = "ranking",
) -> Tensor:
    """Average precision of the ranking of the bank by cosine similarity, for each query.

    It is the mean precision at the ranks of all bank images of the query's class. Tied images share the rank of the
    last of them. The values equal scikit-learn's `average_precision_score`.

    Args:
        queries: (Q, D), not necessarily normalized.
        query_labels: (Q,).
        bank: (B, D), not necessarily normalized. The whole bank is moved to the device, the similarities are chunked.
        bank_labels: (B,).
        device: Device to compute on; None uses the device of the queries.
        title: Title of the progress bar.

    Returns:
        (Q,) in [0, 1], float64, on the CPU; 0 for a query whose class is not in the bank.

    Raises:
        ValueError: A feature is NaN or infinite.
    """
    check_finite("queries", queries)
    check_finite("bank", bank)
    device, dtype = device or queries.device, float_type(queries, bank)
    bank, bank_labels = bank.to(device, dtype), bank_labels.to(device)
    norms = torch.cat([row_norms(part) for part in bank.split(part_rows(bank))])  # instead of a normalized copy
    norms = norms.masked_fill(norms == 0, math.inf)
    ranks = torch.arange(1, len(bank) + 1, device=device)
    rows = max(1, 2**24 // len(bank))  # limits each index tensor to 128 MiB
    found = []
    for part, labels in progress(list(zip(queries.split(rows), query_labels.split(rows), strict=True)), title):
        cosine = unit_rows(part.to(bank)) @ bank.T / norms
        cosine, order = cosine.sort(1, descending=True)
        relevant = bank_labels[order] == labels.to(device).unsqueeze(1)
        # The rank of the last tie is the number of images that are at least as similar.
        last = torch.searchsorted(-cosine, -cosine, right=True)
        precision = relevant.cumsum(1).double().div_(ranks).gather(1, last - 1)
        found.append(((precision * relevant).sum(1) / relevant.sum(1).clamp_min(1)).cpu())
    return torch.cat([torch.zeros(0, dtype=torch.float64), *found])
