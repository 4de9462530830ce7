"""Interface of evaluation protocols: the `EvaluationProtocol`, its input `EvaluatedEncoder` and its `Scores`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ssl_lib.data import ImageData
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.evaluation.features import extract_features
from ssl_lib.runs.results import Metric
from ssl_lib.views import ViewPipeline

__all__ = ["EvaluatedEncoder", "EvaluationProtocol", "Features", "Scores", "needs_labels"]


@dataclass(frozen=True)
class Scores:
    """Results of one protocol for one encoder.

    Attributes:
        values: Value of each metric, by key. Metrics that do not apply, such as fine-tuning of raw pixels, are missing.
        details: Additional results as JSON types: numbers, strings, lists and mappings.
    """

    values: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Features:
    """Frozen features of labeled images, on the CPU.

    Attributes:
        bank: Features of the training images (B, D).
        bank_labels: Class indices of the training images (B,).
        queries: Features of the test images (Q, D).
        query_labels: Class indices of the test images (Q,).
    """

    bank: Tensor
    bank_labels: Tensor
    queries: Tensor
    query_labels: Tensor

    @property
    def num_classes(self) -> int:
        """One more than the largest label in either set."""
        return int(max(self.bank_labels.max(), self.query_labels.max())) + 1


@dataclass
class EvaluatedEncoder:
    """An encoder and the images to evaluate it on. Its features are extracted once, on first access.

    Attributes:
        title: Row of the results table, such as `trained`.
        encoder: (N, C, H, W) -> (N, D).
        bank: Training images, labeled unless no protocol needs labels.
        queries: Labeled test images; None if no protocol needs labels.
        bank_indices: Positions of the training images to use; None uses all.
        query_indices: Positions of the test images to use; None uses all.
        size: Side of the images fed to the encoder in pixels, if `preprocessing` is None.
        resize: Length in pixels that the shorter side is resized to before cropping, if `preprocessing` is None.
        workers: Number of worker processes that decode images.
        center: Whether to subtract the mean of the bank from all features.
        device: Device on which protocols compute. The features stay on the CPU.
        views: Creates the views that the run was trained with; None if they are not known.
        preprocessing: Resizes and normalizes all images; None is `Preprocessing.of(bank, size, resize)`.
    """

    title: str
    encoder: nn.Module
    bank: ImageData
    queries: ImageData | None
    bank_indices: Tensor | None = None
    query_indices: Tensor | None = None
    size: int | None = None
    resize: int | None = None
    workers: int | None = None
    center: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    views: ViewPipeline | None = None
    preprocessing: Preprocessing | None = None

    @cached_property
    def inputs(self) -> Preprocessing:
        """The preprocessing of all images, training and test."""
        return self.preprocessing or Preprocessing.of(self.bank, self.size, self.resize)

    @property
    def bank_places(self) -> Tensor:
        """Positions of the training images in use (B,)."""
        return torch.arange(len(self.bank)) if self.bank_indices is None else self.bank_indices

    @cached_property
    def bank_features(self) -> Tensor:
        """Features of the training images (B, D), which may have no labels.

        All processes must access this property together, as `features`.
        """
        return self._bank[0]

    @cached_property
    def features(self) -> Features:
        """Features of the labeled training and test images."""
        bank, bank_labels, mean = self._bank
        assert self.queries is not None
        queries, query_labels = self.features_of(self.queries, self.query_indices)
        assert bank_labels is not None and query_labels is not None
        return Features(bank, bank_labels, queries if mean is None else queries.sub_(mean), query_labels)

    @cached_property
    def _bank(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Features of the training images, their labels, and the mean that was subtracted."""
        features, labels = self.features_of(self.bank, self.bank_indices)
        mean = features.mean(0) if self.center else None
        return features if mean is None else features.sub_(mean), labels, mean

    def features_of(self, data: ImageData, indices: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Features (N, D) and labels (N,) of images, or None, on the CPU; see `extract_features`."""
        return extract_features(
            self.encoder,
            data,
            indices=indices,
            preprocessing=self.inputs,
            workers=self.workers,
            title=self.title,
        )


class EvaluationProtocol(Protocol):
    """An evaluation method with its settings: a frozen dataclass in `PROTOCOLS`, built from `evaluation.<name>`.

    All processes call a protocol together and get the same scores. A class attribute `needs_labels = False` declares
    that a protocol uses no labels and only the training images.
    """

    @property
    def measures(self) -> Sequence[Metric]:
        """The metrics that the protocol returns, the main metric first."""

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError if there are too few labeled training images; without labels, all of them are -1."""

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Evaluates one encoder."""


def needs_labels(protocol: EvaluationProtocol) -> bool:
    """Whether a protocol needs labeled training and test images; so do those that do not declare it."""
    return bool(getattr(protocol, "needs_labels", True))


def draw(count: int, limit: int | None) -> Tensor:
    """Draws `limit` of `count` positions, always the same, in ascending order; all if the limit is None or larger."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:limit].sort().values


def check_at_least(least: int, settings: object, *names: str) -> None:
    """Raises ValueError if one of the named settings of a protocol is below `least`."""
    for name in names:
        if not getattr(settings, name) >= least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(settings, name)}")
