"""A linear classifier on frozen features."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lib.evaluation.base import Measure, Scores, Subject
from ssl_lib.registry import PROTOCOLS

__all__ = ["Linear", "LinearResult", "few_labels", "linear_probe"]

LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)


@dataclass(frozen=True)
class LinearResult:
    """Accuracies in [0, 1].

    Attributes:
        accuracy: On the test images, with the learning rate that was best on held-out training images.
        lr: That learning rate.
        held_out: Held-out accuracy of every learning rate.
        test: Test accuracy of every learning rate, for a look; the choice does not see it.
    """

    accuracy: float
    lr: float
    held_out: dict[float, float]
    test: dict[float, float]


@PROTOCOLS.register("linear")
@dataclass(frozen=True, kw_only=True)
class Linear:
    """A linear classifier on frozen features; see `linear_probe`.

    Attributes:
        labels_per_class: Labelled images per class; None takes all.
        draws: Random choices of those few labels to average over; of all labels there is one.
    """

    labels_per_class: int | None = None
    draws: int = 5

    def __post_init__(self) -> None:
        if self.labels_per_class is not None and self.labels_per_class < 2:
            raise ValueError(f"labels_per_class must be at least 2, got {self.labels_per_class}; null takes all")
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, got {self.draws}")

    @property
    def measures(self) -> Sequence[Measure]:
        """An accuracy."""
        few = "" if self.labels_per_class is None else f" ({self.labels_per_class} labels per class)"
        return [Measure("linear", f"linear{few}")]

    def check(self, bank_labels: Tensor) -> None:
        """Refuses classes with fewer images than `labels_per_class`."""
        if self.labels_per_class is not None:
            few_labels(bank_labels, self.labels_per_class, seed=0)

    def __call__(self, subject: Subject) -> Scores:
        """The mean over the draws, and every learning rate's accuracy."""
        f, results = subject.features, []
        for seed in range(self.draws if self.labels_per_class else 1):
            few = self.labels_per_class and few_labels(f.bank_labels, self.labels_per_class, seed)
            picks = slice(None) if few is None else few
            bank, labels = f.bank[picks], f.bank_labels[picks]
            results.append(linear_probe(bank, labels, f.queries, f.query_labels, f.num_classes, seed=seed))
        return Scores(spread("linear", [result.accuracy for result in results]), {"draws": list(map(asdict, results))})


def spread(key: str, values: Sequence[float]) -> dict[str, float]:
    """The mean of several draws, and their standard deviation where there are several."""
    several = {f"{key}_std": statistics.stdev(values)} if len(values) > 1 else {}
    return {key: statistics.fmean(values), **several}


def linear_probe(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    num_classes: int,
    *,
    learning_rates: tuple[float, ...] = LEARNING_RATES,
    steps: int = 300,
    batch_size: int = 1024,
    held_out: float = 0.2,
    seed: int = 0,
) -> LinearResult:
    """Trains a classifier per learning rate, all in one batched matrix product, and tests the best.

    As DINOv2's linear evaluation (facebookresearch/dinov2, dinov2/eval/linear.py): SGD with momentum .9, no decay,
    cosine to 0. The rate is chosen on held-out training images, then the classifiers are trained anew on all of them.
    Features are centred and divided by one number, their root mean square, so that one grid fits all backbones.

    Args:
        features: (N, D) of the labelled training images.
        labels: (N,) class indices in [0, num_classes).
        test_features: (M, D).
        test_labels: (M,).
        num_classes: > 1.
        learning_rates: The grid.
        steps: SGD steps per training.
        batch_size: Images per step; all of them where they are fewer.
        held_out: Share of the training images to choose by, drawn from every class alike, in (0, 1).
        seed: Of the split and the order of the images; the global generator is not touched.

    Raises:
        ValueError: Shapes do not fit, or there are too few images to hold any out.
    """
    if features.ndim != 2 or features.shape[1:] != test_features.shape[1:] or len(features) != len(labels):
        shapes = [tuple(tensor.shape) for tensor in (features, labels, test_features)]
        raise ValueError("features (N, D), labels (N,) and test features (M, D) do not fit: {}, {}, {}".format(*shapes))
    generator = torch.Generator().manual_seed(seed)
    chosen = _split(labels, held_out, generator)
    if not chosen.any() or chosen.all():
        raise ValueError(f"{len(labels)} labelled images are too few to hold {held_out:.0%} of each class out")
    mean = features.mean(0)
    scale = (features - mean).square().mean().sqrt().clamp_min(1e-12)
    x, x_test = (features - mean) / scale, (test_features - mean) / scale

    def train_and_score(keep: Tensor, x_eval: Tensor, y_eval: Tensor) -> list[float]:
        heads = _train(x[keep], labels[keep], num_classes, learning_rates, steps, batch_size, generator)
        return _accuracy(heads, x_eval, y_eval)

    validation = train_and_score(~chosen, x[chosen], labels[chosen])
    test = train_and_score(torch.ones_like(chosen), x_test, test_labels)
    best = max(range(len(learning_rates)), key=validation.__getitem__)
    by_rate = [dict(zip(learning_rates, values, strict=True)) for values in (validation, test)]
    return LinearResult(test[best], learning_rates[best], *by_rate)


def few_labels(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Indices of `per_class` images of every class, drawn at random.

    Raises:
        ValueError: A class has fewer.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    picks = []
    for label in labels.unique().tolist():
        members = order[labels[order] == label]
        if len(members) < per_class:
            raise ValueError(f"class {label} has {len(members)} labelled images, fewer than the {per_class} asked for")
        picks.append(members[:per_class])
    return torch.cat(picks)


def _split(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """True for the images held out: the same share of every class, rounded down but at least one of two."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero()[:, 0]
        count = max(int(share * len(members)), 1) if len(members) > 1 else 0
        chosen[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return chosen


def _train(
    x: Tensor,
    y: Tensor,
    num_classes: int,
    learning_rates: tuple[float, ...],
    steps: int,
    batch_size: int,
    generator: torch.Generator,
) -> Tensor:
    """One head per learning rate, from zero: (D + 1, R, classes), the last row the bias."""
    x = F.pad(x, (0, 1), value=1.0)
    heads = x.new_zeros(x.shape[1], len(learning_rates), num_classes)
    velocity = torch.zeros_like(heads)
    rates = x.new_tensor(learning_rates).view(1, -1, 1)
    for step in range(steps):
        inputs, targets = x, y
        if len(x) > batch_size:
            index = torch.randint(len(x), (batch_size,), generator=generator).to(x.device)
            inputs, targets = x[index], y[index]
        residual = _logits(heads, inputs).softmax(2) - F.one_hot(targets, num_classes).unsqueeze(1)
        gradient = inputs.T @ residual.flatten(1) / len(inputs)
        velocity.mul_(0.9).add_(gradient.view_as(heads))
        heads.addcmul_(rates, velocity, value=-0.5 * (1 + math.cos(math.pi * step / steps)))
    return heads


def _logits(heads: Tensor, x: Tensor) -> Tensor:
    """(N, D + 1) -> (N, R, classes), all heads in one matrix product."""
    logits: Tensor = (x @ heads.flatten(1)).unflatten(1, heads.shape[1:])
    return logits


def _accuracy(heads: Tensor, x: Tensor, y: Tensor) -> list[float]:
    predictions = _logits(heads, F.pad(x, (0, 1), value=1.0)).argmax(2)  # (M, R)
    return (predictions == y.unsqueeze(1)).double().mean(0).tolist()
