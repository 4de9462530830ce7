"""Weighted k-nearest-neighbor classification of frozen features, by cosine similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lib.distributed import gather_uneven, share
from ssl_lib.evaluation.base import EvaluatedEncoder, Scores
from ssl_lib.evaluation.classification import class_report
from ssl_lib.evaluation.features import progress
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric
from ssl_lib.utils.rows import check_finite, float_type, unit_rows

__all__ = ["KNN", "bank_neighbors", "knn_accuracy", "knn_scores"]


@PROTOCOLS.register("knn")
@dataclass(frozen=True, kw_only=True)
class KNN:
    """Weighted k-nearest-neighbor classification, as in DINO; see `knn_scores`.

    Attributes:
        k: Number of neighbors that vote.
        temperature: Temperature of the weights exp(cosine / temperature).
        also: Further numbers of neighbors to report; numbers above the number of labeled images are skipped.
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
        """The accuracy for `k`, and for every number in `also`."""
        others = [Metric(f"knn_{k}", f"kNN (k={k})", main=False) for k in self.also if k != self.k]
        return [Metric("knn", f"kNN (k={self.k})"), *others]

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError if `k` is larger than the number of labeled images."""
        if self.k > len(bank_labels):
            raise ValueError(f"knn.k {self.k} is more than the {len(bank_labels)} labeled training images")

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Classifies the queries, split over the processes; the details hold the class report for `k`."""
        f = subject.features
        check_finite("queries", f.queries)  # all of them: an error must be the same in every process
        ks = {"knn": self.k, **{f"knn_{k}": k for k in self.also if self.k != k <= len(f.bank)}}
        title = f"{subject.title}: neighbors"
        found = bank_neighbors(share(f.queries), f.bank, max(ks.values()), device=subject.device, title=title)
        labels, predictions = gather_uneven(share(f.query_labels)), {}
        for key, k in ks.items():
            predictions[key] = gather_uneven(_winners(*found, f.bank_labels, f.num_classes, k, self.temperature))
        values = {key: (classes == labels).double().mean().item() for key, classes in predictions.items()}
        return Scores(values, class_report(predictions["knn"], labels, f.num_classes))


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
    """Finds the k rows of the bank with the highest cosine similarity to each query, in bounded memory.

    It computes in the precision of the features, at least float32, whatever their scale, and breaks ties arbitrarily.
    `ssl_lib.embedding.nearest` is exact.

    Args:
        queries: (Q, D). The rows are normalized here, like those of the bank.
        bank: (B, D).
        k: Number of neighbors, in [1, B].
        device: Device to compute on, chunk by chunk; None uses the device of the queries.
        rows: Number of rows of the bank per chunk.
        title: Title of the progress bar.

    Returns:
        Cosines (Q, k) in descending order and positions in the bank (Q, k), on the device of the queries.

    Raises:
        ValueError: Shapes do not match, a feature is NaN or infinite, or k is out of range.
    """
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(f"queries (Q, D) and bank (B, D) do not match: {tuple(queries.shape)} and {tuple(bank.shape)}")
    if not 1 <= k <= len(bank):
        raise ValueError(f"k must be in [1, {len(bank)}] (at most the size of the bank), got {k}")
    check_finite("queries", queries)
    if bank is not queries:
        check_finite("bank", bank)
    device, dtype = device or queries.device, float_type(queries, bank)
    best = [
        queries.new_empty(len(queries), 0, dtype=dtype),
        bank.new_empty(len(queries), 0, dtype=torch.int64).to(queries.device),
    ]
    for start in progress(range(0, len(bank), rows), title, unit="part"):
        part = unit_rows(bank[start : start + rows].to(device, dtype))
        found = []
        for some in queries.split(max(1, 2**25 // len(part))):  # limits the similarities to 128 MiB
            similarity, place = (unit_rows(some.to(device, dtype)) @ part.T).topk(min(k, len(part)), dim=1)
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
        queries: (Q, D). The rows are normalized here.
        bank: (B, D). The rows are normalized here.
        bank_labels: (B,) class indices in [0, num_classes).
        num_classes: > 0.
        k: Number of neighbors, at most B.
        temperature: > 0.

    Returns:
        Scores (Q, num_classes), >= 0. The weights are divided by the largest weight of the query, so that they can
        neither overflow nor all underflow: the nearest image has weight 1.

    Raises:
        ValueError: Shapes do not match, a feature is NaN or infinite, a label is out of range, k is not in [1, B], or
            the temperature is not above 0.
    """
    _check(bank, bank_labels, num_classes, temperature)
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
    """Accuracy in [0, 1] of the class with the highest score of `knn_scores`, in bounded memory."""
    _check(bank, bank_labels, num_classes, temperature)
    if query_labels.shape != queries.shape[:1] or not len(queries):
        raise ValueError(f"query_labels must be ({len(queries)},) and not empty, got {tuple(query_labels.shape)}")
    classes = _winners(*bank_neighbors(queries, bank, k), bank_labels, num_classes, k, temperature)
    return (classes == query_labels).double().mean().item()


def _check(bank: Tensor, bank_labels: Tensor, num_classes: int, temperature: float) -> None:
    if bank_labels.shape != bank.shape[:1]:
        raise ValueError(f"bank_labels must be ({len(bank)},), got {tuple(bank_labels.shape)}")
    if len(bank_labels) and not 0 <= bank_labels.min() <= bank_labels.max() < num_classes:
        low, high = int(bank_labels.min()), int(bank_labels.max())
        raise ValueError(f"bank_labels must be in [0, {num_classes}), got {low} to {high}: leave out unlabeled images")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")


def _winners(
    similarity: Tensor, neighbors: Tensor, bank_labels: Tensor, num_classes: int, k: int, temperature: float
) -> Tensor:
    """Classes (Q,) with the highest scores; at most 2**24 scores (64 MiB) are in memory."""
    rows = max(1, 2**24 // num_classes)
    parts = zip(similarity.split(rows), neighbors.split(rows), strict=True)
    return torch.cat([_votes(*part, bank_labels, num_classes, k, temperature).argmax(1) for part in parts])


def _votes(
    similarity: Tensor, neighbors: Tensor, bank_labels: Tensor, num_classes: int, k: int, temperature: float
) -> Tensor:
    """Scores (Q, num_classes) from the first k neighbors, of which the first is the nearest."""
    temperature = max(temperature, torch.finfo(similarity.dtype).tiny)  # 0 / 0 would be NaN
    weights = ((similarity[:, :k] - similarity[:, :1]) / temperature).exp()
    scores = similarity.new_zeros(len(similarity), num_classes)
    return scores.scatter_add_(1, bank_labels[neighbors[:, :k]], weights)
