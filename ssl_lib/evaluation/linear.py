"""Linear probe: a linear classifier on frozen features, trained with SGD over a grid of learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lib.evaluation.base import EvaluatedEncoder, Scores, check_at_least
from ssl_lib.evaluation.checks import check_labeled
from ssl_lib.evaluation.classification import (
    Standardized,
    accuracies,
    class_report,
    few_labels,
    held_out_split,
    logits,
    spread,
)
from ssl_lib.evaluation.features import progress
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric

__all__ = ["Linear", "LinearResult", "linear_probe"]

LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)


@dataclass(frozen=True)
class LinearResult:
    """Accuracies in [0, 1].

    Attributes:
        accuracy: Test accuracy with the learning rate that was best on held-out training images.
        lr: The selected learning rate.
        held_out: Held-out accuracy of every learning rate.
        test: Test accuracy of every learning rate, for information; not used for the selection.
        predictions: (M,) predicted classes of the test images with the selected learning rate, on the CPU.
    """

    accuracy: float
    lr: float
    held_out: dict[float, float]
    test: dict[float, float]
    predictions: Tensor = field(repr=False)


@PROTOCOLS.register("linear")
@dataclass(frozen=True, kw_only=True)
class Linear:
    """A linear classifier on frozen features; its learning rate is selected on held-out training images.

    Source: DINOv2's linear evaluation (facebookresearch/dinov2, dinov2/eval/linear.py); see `linear_probe`.

    Attributes:
        labels_per_class: Labeled images per class; None uses all.
        draws: Number of random subsets to average over; ignored if `labels_per_class` is None.
        epochs: Passes over the labeled images.
        min_steps: Minimum number of SGD steps, if the epochs have fewer.
        batch_size: Images per step.
        learning_rates: The grid; all classifiers are trained at once.
        held_out: Fraction of the labeled images held out to select the learning rate, in (0, 1).
    """

    labels_per_class: int | None = None
    draws: int = 5
    epochs: int = 10
    min_steps: int = 300
    batch_size: int = 1024
    learning_rates: tuple[float, ...] = LEARNING_RATES
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if self.labels_per_class is not None and self.labels_per_class < 2:
            raise ValueError(f"labels_per_class must be at least 2, got {self.labels_per_class}; null uses all")
        check_at_least(1, self, "draws", "epochs", "min_steps", "batch_size")
        if not self.learning_rates or not min(self.learning_rates) > 0:
            raise ValueError(f"learning_rates must be above 0, got {self.learning_rates}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be in (0, 1), got {self.held_out}")

    @property
    def measures(self) -> Sequence[Metric]:
        """The accuracy of the linear classifier."""
        few = "" if self.labels_per_class is None else f" ({self.labels_per_class} labels per class)"
        return [Metric("linear", f"linear{few}")]

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError if a class has fewer images than `labels_per_class`."""
        if self.labels_per_class is not None:
            few_labels(bank_labels, self.labels_per_class, seed=0)

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Returns the mean over the draws; the details hold the accuracy per learning rate and a class report."""
        f, results = subject.features, []
        for seed in range(self.draws if self.labels_per_class else 1):
            few = self.labels_per_class and few_labels(f.bank_labels, self.labels_per_class, seed)
            picks = slice(None) if few is None else few
            results.append(
                linear_probe(
                    f.bank[picks],
                    f.bank_labels[picks],
                    f.queries,
                    f.query_labels,
                    f.num_classes,
                    learning_rates=self.learning_rates,
                    epochs=self.epochs,
                    min_steps=self.min_steps,
                    batch_size=self.batch_size,
                    held_out=self.held_out,
                    seed=seed,
                    device=subject.device,
                    title=f"{subject.title}: linear",
                )
            )
        draws = [{"lr": r.lr, "accuracy": r.accuracy, "held_out": r.held_out, "test": r.test} for r in results]
        predictions = torch.cat([result.predictions for result in results])
        report = class_report(predictions, f.query_labels.repeat(len(results)), f.num_classes)
        return Scores(spread("linear", [result.accuracy for result in results]), {"draws": draws, **report})


def linear_probe(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    num_classes: int,
    *,
    learning_rates: tuple[float, ...] = LEARNING_RATES,
    epochs: int = 10,
    min_steps: int = 300,
    batch_size: int = 1024,
    held_out: float = 0.2,
    seed: int = 0,
    device: torch.device | None = None,
    title: str = "linear",
) -> LinearResult:
    """Trains one classifier per learning rate, all in one batched matrix product, and tests the best one.

    Source: DINOv2's linear evaluation (facebookresearch/dinov2, dinov2/eval/linear.py): SGD with momentum 0.9, no
    weight decay, cosine decay to 0. The learning rate is selected on held-out training images, then the classifiers are
    trained again on all training images. Features are centered and divided by their root mean square (a scalar), so
    that one grid fits all backbones.

    Args:
        features: (N, D) of the labeled training images. They stay on their device and are moved batch by batch.
        labels: (N,) class indices in [0, num_classes).
        test_features: (M, D).
        test_labels: (M,).
        num_classes: > 1.
        learning_rates: The grid.
        epochs: Passes over the images per training.
        min_steps: Minimum number of SGD steps per training, if the epochs have fewer.
        batch_size: Images per step; limited to the number of images.
        held_out: Fraction of every class held out to select the learning rate, in (0, 1).
        seed: Seed for the split and the order of the images. The global generator is not used.
        device: Device to train on; None uses the device of the features.
        title: Title of the progress bar.

    Raises:
        ValueError: Shapes do not match, a feature is NaN or infinite, or there are too few images to hold any out.
    """
    check_labeled(features, labels, test_features)
    generator = torch.Generator().manual_seed(seed)
    train, validation = held_out_split(labels, held_out, generator)
    scaled = Standardized.by(features, device, len(learning_rates) * num_classes)

    def trained(places: Tensor) -> Tensor:
        steps = max(min_steps, math.ceil(epochs * len(places) / batch_size))
        batches = islice(_batches(places, batch_size, generator), steps)
        data = progress(((scaled.part(features[b]), labels[b]) for b in batches), title, steps, unit="step")
        return _train(data, steps, num_classes, learning_rates)

    scores, _ = accuracies(trained(train), features[validation], labels[validation], scaled)
    test, predictions = accuracies(trained(torch.arange(len(labels))), test_features, test_labels, scaled)
    best = max(range(len(learning_rates)), key=scores.__getitem__)
    by_rate = [dict(zip(learning_rates, values, strict=True)) for values in (scores, test)]
    return LinearResult(test[best], learning_rates[best], by_rate[0], by_rate[1], predictions[:, best].contiguous())


def _batches(places: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yields endless batches of positions, reshuffled every epoch; all positions if they fit into one batch."""
    while True:
        if len(places) <= size:
            yield places
        else:
            order = places[torch.randperm(len(places), generator=generator)]
            yield from order[: len(order) // size * size].split(size)


@torch.no_grad()
def _train(
    batches: Iterator[tuple[Tensor, Tensor]], steps: int, num_classes: int, learning_rates: tuple[float, ...]
) -> Tensor:
    """Trains one zero-initialized head per learning rate on batches (b, D + 1) and (b,): (R, classes, D + 1)."""
    heads = velocity = rates = torch.zeros(0)
    for step, (x, y) in enumerate(batches):
        if step == 0:
            heads = x.new_zeros(len(learning_rates), num_classes, x.shape[1])
            velocity, rates = torch.zeros_like(heads), x.new_tensor(learning_rates).view(-1, 1, 1)
        residual = logits(heads, x).softmax(1) - F.one_hot(y.to(x.device), num_classes).T  # (R, classes, b)
        velocity.mul_(0.9).add_((residual.flatten(0, 1) @ x / len(x)).view_as(heads))
        heads.addcmul_(rates, velocity, value=-0.5 * (1 + math.cos(math.pi * step / steps)))
    return heads
