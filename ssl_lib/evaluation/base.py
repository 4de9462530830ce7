"""What a protocol of evaluation is, what it looks at and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ssl_lib.data import ImageData
from ssl_lib.evaluation.features import extract_features
from ssl_lib.runs.results import Metric
from ssl_lib.views import ViewPipeline

__all__ = ["EvaluatedEncoder", "EvaluationProtocol", "Features", "Scores"]


@dataclass(frozen=True)
class Scores:
    """What a protocol found out about one subject.

    Attributes:
        values: By the keys of its measures; those that the subject cannot have, such as pixels fine-tuned, are missing.
        details: What else is worth keeping, as plain numbers, texts, lists and mappings.
    """

    values: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Features:
    """Frozen features of labeled images, on the CPU.

    Attributes:
        bank: Of the training images (B, D).
        bank_labels: Their classes (B,).
        queries: Of the test images (Q, D).
        query_labels: Their classes (Q,).
    """

    bank: Tensor
    bank_labels: Tensor
    queries: Tensor
    query_labels: Tensor

    @property
    def num_classes(self) -> int:
        """One more than the largest label of either."""
        return int(max(self.bank_labels.max(), self.query_labels.max())) + 1


@dataclass
class EvaluatedEncoder:
    """An encoder, and the labeled images to judge it by; its features are extracted once, when first asked for.

    Attributes:
        title: Its row of the results, such as `trained`.
        encoder: (N, C, H, W) -> (N, D).
        bank: Labeled training images.
        queries: Labeled test images.
        bank_indices: Positions of the training images to use; None uses all.
        query_indices: Positions of the test images to use; None uses all.
        size: Side of the images shown; see `evaluation_batches`.
        resize: Pixels that the shorter side is resized to first; see `evaluation_batches`.
        workers: Processes that decode.
        center: Whether features have the bank's mean taken off.
        device: Where protocols compute; features themselves stay on the CPU.
        views: Makes the views that the run was trained with, where they are known.
    """

    title: str
    encoder: nn.Module
    bank: ImageData
    queries: ImageData
    bank_indices: Tensor | None = None
    query_indices: Tensor | None = None
    size: int | None = None
    resize: int | None = None
    workers: int | None = None
    center: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    views: ViewPipeline | None = None

    @property
    def bank_places(self) -> Tensor:
        """Positions of the training images in use (B,)."""
        return torch.arange(len(self.bank)) if self.bank_indices is None else self.bank_indices

    @cached_property
    def features(self) -> Features:
        """Of all its images; several processes ask for them together."""
        bank, bank_labels = self._extract(self.bank, self.bank_indices)
        queries, query_labels = self._extract(self.queries, self.query_indices)
        if self.center:
            mean = bank.mean(0)
            bank -= mean
            queries -= mean
        return Features(bank, bank_labels, queries, query_labels)

    def _extract(self, data: ImageData, indices: Tensor | None) -> tuple[Tensor, Tensor]:
        features, labels = extract_features(
            self.encoder,
            data,
            indices=indices,
            size=self.size,
            resize=self.resize,
            workers=self.workers,
            title=self.title,
        )
        assert labels is not None
        return features, labels


class EvaluationProtocol(Protocol):
    """A way to judge an encoder, with its settings: a frozen dataclass in `PROTOCOLS`, built from `evaluation.<name>`.

    Several processes call it together and get the same scores.
    """

    @property
    def measures(self) -> Sequence[Metric]:
        """What it returns, its own figure first."""

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError if the labeled training images are too few."""

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Judges one encoder."""


def draw(count: int, limit: int | None, seed: int = 0) -> Tensor | None:
    """Positions of at most `limit` of `count` images, always the same ones, in order; None where all are taken."""
    if limit is None or limit >= count:
        return None
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:limit].sort().values
