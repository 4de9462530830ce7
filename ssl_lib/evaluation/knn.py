"""Weighted k-nearest-neighbor classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lib.distributed import gather_uneven, share
from ssl_lib.evaluation.base import EvaluatedEncoder, Scores
from ssl_lib.evaluation.classification import class_report
from ssl_lib.evaluation.features import progress
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric

__all__ = ["KNN", "bank_neighbors", "knn_accuracy", "knn_scores"]


@PROTOCOLS.register("knn")
@dataclass(frozen=True, kw_only=True)
class KNN:
    """Weighted k-nearest-neighbor classification, as in DINO; see `knn_scores`.

    Attributes:
        k: Neighbors that vote.
        temperature: Of their weights exp(cosine / temperature).
        also: Other numbers of neighbors to report beside it; those of more than the labeled images are left out.
    """

    k: int = 20
    temperature: float = 0.07
    also: tuple[int, ...] = (10, 100, 200)

    def __post_init__(self) -> None:
        if min(self.k, *self.also, 1) < 1:
            raise ValueError(f"k must be at least 1, got {self.k} and also {self.also}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    @property
    def measures(self) -> Sequence[Metric]:
        """Accuracies."""
        others = [Metric(f"knn_{k}", f"kNN (k={k})", main=False) for k in self.also if k != self.k]
        return [Metric("knn", f"kNN (k={self.k})"), *others]

    def check(self, bank_labels: Tensor) -> None:
        """Refuses more neighbors than images."""
        if self.k > len(bank_labels):
            raise ValueError(f"knn.k {self.k} is more than the {len(bank_labels)} labeled training images")

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Each process looks at its share of the queries; in the details, the classes as k neighbors tell them."""
        f = subject.features
        ks = {"knn": self.k, **{f"knn_{k}": k for k in self.also if self.k != k <= len(f.bank)}}
        title = f"{subject.title}: neighbors"
        found = bank_neighbors(share(f.queries), f.bank, max(ks.values()), device=subject.device, title=title)
        labels, said = gather_uneven(share(f.query_labels)), {}
        for key, k in ks.items():
            votes = _votes(*found, f.bank_labels, f.num_classes, k, self.temperature)
            said[key] = gather_uneven(votes.argmax(1))
        values = {key: (classes == labels).double().mean().item() for key, classes in said.items()}
        return Scores(values, class_report(said["knn"], labels, f.num_classes))


@torch.no_grad()
def bank_neighbors(
    queries: Tensor,
    bank: Tensor,
    k: int,
    *,
    device: torch.device | str | None = None,
    rows: int = 2**16,
    title: str = "neighbors",
) -> tuple[Tensor, Tensor]:
    """The k rows of the bank most similar to each query, by cosine, without keeping all similarities.

    In the features' own precision, as fast as may be, equal ones in any order; `ssl_lib.embedding.nearest` is exact.

    Args:
        queries: (Q, D); normalized here, as is the bank, part by part.
        bank: (B, D).
        k: Neighbors, in [1, B].
        device: Where to compute, part by part; None computes where the queries are.
        rows: Of the bank taken at once.
        title: Of the progress bar.

    Returns:
        Cosines (Q, k), falling, and positions in the bank (Q, k); where the queries are.

    Raises:
        ValueError: Shapes do not fit, or k is out of range.
    """
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(f"queries (Q, D) and bank (B, D) do not fit: {tuple(queries.shape)} and {tuple(bank.shape)}")
    if not 1 <= k <= len(bank):
        raise ValueError(f"k must lie in [1, {len(bank)}], the size of the bank; got {k}")
    device = device or queries.device
    best = [queries.new_empty(len(queries), 0), bank.new_empty(len(queries), 0, dtype=torch.int64).to(queries.device)]
    for start in progress(range(0, len(bank), rows), title, unit="part"):
        part = F.normalize(bank[start : start + rows].to(device), dim=1)
        found = []
        for some in queries.split(max(1, 2**25 // len(part))):  # bounds the similarities held at a time to 128 MiB
            similarity, place = (F.normalize(some.to(device), dim=1) @ part.T).topk(min(k, len(part)), dim=1)
            found.append((similarity.to(queries.device), place.to(queries.device) + start))
        joined = [torch.cat(pair, 1) for pair in zip(best, map(torch.cat, zip(*found, strict=True)), strict=True)]
        order = joined[0].topk(min(k, joined[0].shape[1]), dim=1).indices
        best = [values.gather(1, order) for values in joined]
    return best[0], best[1]


@torch.no_grad()
def knn_scores(
    queries: Tensor, bank: Tensor, bank_labels: Tensor, num_classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Votes of the k most similar bank images, weighted by exp(cosine / temperature).

    Source: DINO's evaluation (facebookresearch/dino, eval_knn.py); Wu et al. 2018, arXiv:1805.01978, section 3.4.

    Args:
        queries: (Q, D); normalized here.
        bank: (B, D); normalized here.
        bank_labels: (B,) class indices in [0, num_classes).
        num_classes: > 0.
        k: Neighbors, at most B.
        temperature: > 0.

    Returns:
        (Q, num_classes) scores, >= 0; the weights are divided by exp(1 / temperature), so that none overflows.

    Raises:
        ValueError: Shapes do not fit, k is not in [1, B] or the temperature is not above 0.
    """
    if bank_labels.shape != bank.shape[:1]:
        raise ValueError(f"bank_labels must be ({len(bank)},), got {tuple(bank_labels.shape)}")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    return _votes(*bank_neighbors(queries, bank, k), bank_labels, num_classes, k, temperature)


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


def _votes(
    similarity: Tensor, neighbors: Tensor, bank_labels: Tensor, num_classes: int, k: int, temperature: float
) -> Tensor:
    """Scores (Q, num_classes) by the first k neighbors."""
    weights = ((similarity[:, :k] - 1) / temperature).exp()
    scores = similarity.new_zeros(len(similarity), num_classes)
    return scores.scatter_add_(1, bank_labels[neighbors[:, :k]], weights)
