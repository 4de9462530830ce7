"""Ways to score frozen features, each with its settings."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from ssl_lib.distributed import gather_uneven, share
from ssl_lib.evaluation.knn import knn_scores
from ssl_lib.evaluation.linear import few_labels, linear_probe

__all__ = ["KNN", "EvaluationProtocol", "Linear"]


class EvaluationProtocol(Protocol):
    """Scores test features by labelled training features; several processes call it together, all with all of them."""

    key: ClassVar[str]

    @property
    def title(self) -> str:
        """The heading of its column."""

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError if the labelled training images are too few."""

    def __call__(self, bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor) -> float:
        """Accuracy in [0, 1] on queries (Q, D), (Q,), by bank (B, D), (B,)."""


@dataclass(frozen=True, kw_only=True)
class KNN:
    """Weighted k-nearest-neighbour classification, as in DINO; see `knn_scores`.

    Attributes:
        k: Neighbours that vote.
        temperature: Of their weights exp(cosine / temperature).
    """

    key: ClassVar[str] = "knn"
    k: int = 20
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    @property
    def title(self) -> str:
        """The heading of its column."""
        return f"kNN (k={self.k})"

    def check(self, bank_labels: Tensor) -> None:
        """Refuses more neighbours than images."""
        if self.k > len(bank_labels):
            raise ValueError(f"knn.k {self.k} is more than the {len(bank_labels)} labelled training images")

    def __call__(self, bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor) -> float:
        """Accuracy in [0, 1]; each process looks at its share of the queries."""
        num_classes = int(max(bank_labels.max(), query_labels.max())) + 1
        scores = knn_scores(share(queries), bank, bank_labels, num_classes, self.k, self.temperature)
        hits = scores.argmax(1) == share(query_labels)
        return gather_uneven(hits.double()).mean().item()


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A linear classifier on frozen features; see `linear_probe`.

    Attributes:
        labels_per_class: Labelled images per class; None takes all.
        draws: Random choices of those few labels to average over.
    """

    key: ClassVar[str] = "linear"
    labels_per_class: int | None = None
    draws: int = 5

    def __post_init__(self) -> None:
        if self.labels_per_class is not None and self.labels_per_class < 2:
            raise ValueError(f"labels_per_class must be at least 2, got {self.labels_per_class}; null takes all")
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, got {self.draws}")

    @property
    def title(self) -> str:
        """The heading of its column."""
        return "linear" if self.labels_per_class is None else f"linear ({self.labels_per_class} labels per class)"

    def check(self, bank_labels: Tensor) -> None:
        """Refuses classes with fewer images than `labels_per_class`."""
        if self.labels_per_class is not None:
            few_labels(bank_labels, self.labels_per_class, seed=0)

    def __call__(self, bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor) -> float:
        """Accuracy in [0, 1], the mean over the draws."""
        num_classes = int(max(bank_labels.max(), query_labels.max())) + 1
        if self.labels_per_class is None:
            return linear_probe(bank, bank_labels, queries, query_labels, num_classes).accuracy
        accuracies = []
        for draw in range(self.draws):
            picks = few_labels(bank_labels, self.labels_per_class, seed=draw)
            result = linear_probe(bank[picks], bank_labels[picks], queries, query_labels, num_classes, seed=draw)
            accuracies.append(result.accuracy)
        return statistics.fmean(accuracies)
