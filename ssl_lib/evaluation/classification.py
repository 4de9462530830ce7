"""What a classifier got right and wrong, class by class; and what linear classifiers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lib.runs.results import mean_and_spread

__all__ = [
    "Standardized",
    "accuracies",
    "class_report",
    "few_labels",
    "held_out_split",
    "logits",
    "share_of_labels",
    "spread",
]

CONFUSION_CLASSES = 100
"""Up to so many classes a report has the whole confusion matrix."""


def class_report(predictions: Tensor, labels: Tensor, num_classes: int) -> dict[str, Any]:
    """How well each class was told, for the details of a protocol.

    Args:
        predictions: (Q,) class indices in [0, num_classes).
        labels: (Q,) the true ones.
        num_classes: > 0.

    Returns:
        `class_accuracy`, a share in [0, 1] per class, None for a class without a test image; and, for at most 100
        classes, `confusion`: the number of images by true (rows) and predicted class (columns).
    """
    counts = labels.bincount(minlength=num_classes).tolist()
    hits = labels[predictions == labels].bincount(minlength=num_classes).tolist()
    report: dict[str, Any] = {"class_accuracy": [h / n if n else None for h, n in zip(hits, counts, strict=True)]}
    if num_classes <= CONFUSION_CLASSES:  # of many classes the matrix may not fit into memory
        confusion = torch.bincount(labels * num_classes + predictions, minlength=num_classes**2)
        report["confusion"] = confusion.view(num_classes, num_classes).tolist()
    return report


def spread(key: str, values: Sequence[float]) -> dict[str, float]:
    """The mean of several draws, and their standard deviation where there are several."""
    mean, spread = mean_and_spread(values)
    return {key: mean} if spread is None else {key: mean, f"{key}_std": spread}


def few_labels(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Indices of `per_class` images of every class, drawn at random.

    Raises:
        ValueError: A class has fewer.
    """
    for label, count in zip(*labels.unique(return_counts=True), strict=True):
        if count < per_class:
            raise ValueError(f"class {label} has {count} labeled images, fewer than the {per_class} asked for")
    return _draw(labels, dict.fromkeys(labels.unique().tolist(), per_class), torch.Generator().manual_seed(seed))


def share_of_labels(labels: Tensor, share: float, seed: int) -> Tensor:
    """Indices of the same share of every class, rounded, drawn at random.

    Raises:
        ValueError: A class is so small that its share is no image.
    """
    counts = {int(c): round(share * int(n)) for c, n in zip(*labels.unique(return_counts=True), strict=True)}
    if empty := [label for label, count in counts.items() if count < 1]:
        size = int((labels == empty[0]).sum())
        raise ValueError(f"{share:.3g} of the {size} labeled images of class {empty[0]} is not even one")
    return _draw(labels, counts, torch.Generator().manual_seed(seed))


def held_out_split(labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Places to train on and places to choose by: the same share of every class, rounded down, but one of two at least.

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
        raise ValueError(f"{len(labels)} labeled images are too few to hold {share:.0%} of each class out")
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


@torch.no_grad()
def accuracies(heads: Tensor, features: Tensor, labels: Tensor, scaled: Standardized) -> tuple[list[float], Tensor]:
    """Share of the images that each of several linear classifiers tells right, and what each said.

    Args:
        heads: (R, classes, D + 1), the last column the bias.
        features: (M, D).
        labels: (M,).
        scaled: What the heads were trained on.

    Returns:
        R accuracies in [0, 1], and the predictions (M, R) on the CPU.
    """
    said = torch.cat([logits(heads, x).argmax(1).T.cpu() for x in scaled(features)])
    return (said == labels.cpu().unsqueeze(1)).double().mean(0).tolist(), said


def logits(heads: Tensor, x: Tensor) -> Tensor:
    """Of several linear classifiers (R, classes, D + 1) on features (b, D + 1): (R, classes, b).

    With the images last, softmax and the gradient's product are several times as fast on a CPU.
    """
    product: Tensor = heads.flatten(0, 1) @ x.T
    return product.view(*heads.shape[:2], len(x))


@dataclass(frozen=True)
class Standardized:
    """Takes features to a device part by part, less a mean and divided by one number; they stay where they are.

    Attributes:
        mean: (D,), on the device.
        scale: Above 0.
        rows: Features per part.
    """

    mean: Tensor
    scale: float
    rows: int

    @classmethod
    def by(cls, features: Tensor, device: torch.device | None = None, width: int = 1) -> Standardized:
        """Centers by these features and divides by their root mean square, so that one grid of settings fits all.

        Args:
            features: (N, D).
            device: Where the parts go; None leaves them where the features are.
            width: Numbers computed per image, which bounds the images in a part: 2**24 numbers at a time.
        """
        rows, mean = part_rows(features, width), features.mean(0)
        squares = sum(float((part - mean).square().sum(dtype=torch.float64)) for part in features.split(rows))
        return cls(mean.to(device or features.device), max((squares / features.numel()) ** 0.5, 1e-12), rows)

    def __call__(self, features: Tensor) -> Iterator[Tensor]:
        """Parts (b, D + 1) of features (M, D), in order; the last column is 1, for the bias."""
        return map(self.part, features.split(self.rows))

    def part(self, features: Tensor) -> Tensor:
        """(b, D) -> (b, D + 1)."""
        return F.pad((features.to(self.mean.device) - self.mean) / self.scale, (0, 1), value=1.0)


def part_rows(features: Tensor, width: int = 1) -> int:
    """How many features (N, D) to work on at once, where each needs `width` numbers beside its own."""
    return max(1, 2**24 // max(width, features.shape[1]))


def _draw(labels: Tensor, counts: dict[int, int], generator: torch.Generator) -> Tensor:
    """So many places of each class, at random."""
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    ends = labels.bincount().cumsum(0).tolist()
    starts = [0, *ends]
    return torch.cat([by_class[starts[label] : starts[label] + count] for label, count in counts.items()])
