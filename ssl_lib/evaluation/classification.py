"""Helpers for classification protocols: per-class reports, label subsets, held-out splits and feature scaling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lib.runs.results import mean_and_spread
from ssl_lib.utils.rows import float_type, part_rows

__all__ = [
    "Standardized",
    "accuracies",
    "class_report",
    "class_sizes",
    "few_labels",
    "held_out_split",
    "logits",
    "share_of_labels",
    "spread",
]

CONFUSION_CLASSES = 100
"""Largest number of classes for which a report contains the confusion matrix."""


def class_report(predictions: Tensor, labels: Tensor, num_classes: int) -> dict[str, Any]:
    """Per-class accuracy and confusion matrix, for the details of a protocol.

    Args:
        predictions: (Q,) class indices in [0, num_classes).
        labels: (Q,) true class indices.
        num_classes: > 0.

    Returns:
        `class_accuracy`, the accuracy in [0, 1] of each class, None for a class without test images. With at most 100
        classes also `confusion`, the number of images by true class (rows) and predicted class (columns).
    """
    counts = labels.bincount(minlength=num_classes).tolist()
    hits = labels[predictions == labels].bincount(minlength=num_classes).tolist()
    report: dict[str, Any] = {"class_accuracy": [h / n if n else None for h, n in zip(hits, counts, strict=True)]}
    if num_classes <= CONFUSION_CLASSES:  # with many classes the matrix may not fit in memory
        confusion = torch.bincount(labels * num_classes + predictions, minlength=num_classes**2)
        report["confusion"] = confusion.view(num_classes, num_classes).tolist()
    return report


def spread(key: str, values: Sequence[float]) -> dict[str, float]:
    """The mean of the values under `key`, and with several values their standard deviation under `<key>_std`."""
    mean, spread = mean_and_spread(values)
    return {key: mean} if spread is None else {key: mean, f"{key}_std": spread}


def class_sizes(labels: Tensor) -> dict[int, int]:
    """Number of images of each class that has any."""
    return {label: size for label, size in enumerate(labels.bincount().tolist()) if size}


def few_labels(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Indices of `per_class` images of every class, drawn at random.

    Raises:
        ValueError: A class has fewer images.
    """
    sizes = class_sizes(labels)
    for label, size in sizes.items():
        if size < per_class:
            raise ValueError(f"class {label} has {size} labeled images, fewer than the requested {per_class}")
    return _draw(labels, dict.fromkeys(sizes, per_class), seed)


def share_of_labels(labels: Tensor, share: float, seed: int) -> Tensor:
    """Indices of the same fraction of every class, drawn at random. The number of images per class is rounded.

    Raises:
        ValueError: The number of images of a class rounds to zero.
    """
    sizes = class_sizes(labels)
    for label, size in sizes.items():
        if round(share * size) < 1:
            raise ValueError(f"{share:.3g} of the {size} labeled images of class {label} is less than one image")
    return _draw(labels, {label: round(share * size) for label, size in sizes.items()}, seed)


def held_out_split(labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Splits image indices into a training and a held-out set, with the same held-out fraction in every class.

    The number of held-out images per class is rounded down, but at least 1 if the class has two or more images.

    Raises:
        ValueError: There are too few images to hold any out.
    """
    labels = labels.cpu()
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero()[:, 0]
        count = max(int(share * len(members)), 1) if len(members) > 1 else 0
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    if not held.any() or held.all():
        raise ValueError(f"{len(labels)} labeled images are too few to hold out {share:.0%} of each class")
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


@torch.no_grad()
def accuracies(heads: Tensor, features: Tensor, labels: Tensor, scaled: Standardized) -> tuple[list[float], Tensor]:
    """Accuracy and predictions of several linear classifiers.

    Args:
        heads: (R, classes, D + 1); the last column is the bias.
        features: (M, D).
        labels: (M,).
        scaled: The feature scaling that the classifiers were trained with.

    Returns:
        R accuracies in [0, 1], and the predictions (M, R) on the CPU.
    """
    predictions = torch.cat([logits(heads, x).argmax(1).T.cpu() for x in scaled(features)])
    return (predictions == labels.cpu().unsqueeze(1)).double().mean(0).tolist(), predictions


def logits(heads: Tensor, x: Tensor) -> Tensor:
    """Logits of several linear classifiers (R, classes, D + 1) on features (b, D + 1): (R, classes, b).

    The images are the last dimension because softmax and the gradient product are then several times faster on a CPU.
    """
    product: Tensor = heads.flatten(0, 1) @ x.T
    return product.view(*heads.shape[:2], len(x))


@dataclass(frozen=True)
class Standardized:
    """Standardizes features chunk by chunk: subtracts a mean, divides by a scalar and moves the chunk to a device.

    It computes in the type of the mean.

    Attributes:
        mean: (D,), on the target device, at least float32.
        scale: > 0.
        rows: Number of feature vectors per chunk.
    """

    mean: Tensor
    scale: float
    rows: int

    @classmethod
    def by(cls, features: Tensor, device: torch.device | None = None, width: int = 1) -> Standardized:
        """Centers by the mean of these features and divides by their root mean square, so one grid fits all backbones.

        Args:
            features: (N, D).
            device: Device of the chunks; None uses the device of the features.
            width: Number of values computed per image. A chunk is limited to 2**24 values.

        Raises:
            ValueError: The mean overflows.
        """
        rows, dtype = part_rows(features, width), float_type(features)
        mean = features.mean(0, dtype=dtype)
        largest = max(abs(float(value)) for value in features.aminmax())
        # The squares are taken in units of a power of two: they cannot overflow or underflow, and no digit changes.
        unit = 2.0 ** (math.frexp(max(largest, torch.finfo(dtype).tiny))[1] - 1)
        squares = sum(float(((part - mean) / unit).square().sum(dtype=torch.float64)) for part in features.split(rows))
        scale = unit * (squares / features.numel()) ** 0.5
        if not math.isfinite(scale):
            raise ValueError(f"the mean of the features overflows {dtype}: divide them by {largest:.3g}")
        return cls(mean.to(device or features.device), scale or 1.0, rows)

    def __call__(self, features: Tensor) -> Iterator[Tensor]:
        """Yields standardized chunks (b, D + 1) of features (M, D), in order; the last column is 1, for the bias."""
        return map(self.part, features.split(self.rows))

    def part(self, features: Tensor) -> Tensor:
        """Standardizes one chunk: (b, D) -> (b, D + 1)."""
        return F.pad((features.to(self.mean) - self.mean) / self.scale, (0, 1), value=1.0)


def _draw(labels: Tensor, counts: dict[int, int], seed: int) -> Tensor:
    """Draws `counts[label]` image indices of each class at random."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = order[labels[order].argsort(stable=True)].split(labels.bincount().tolist())
    return torch.cat([by_class[label][:count] for label, count in counts.items()])
