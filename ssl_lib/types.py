"""Data structures passed between loader, views, methods and trainer."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["Batch", "BatchRandom", "NonFinite", "Progress", "StepOutput", "Views"]


@dataclass(frozen=True)
class Batch:
    """One batch of a loader: this process's images of one optimizer update.

    Attributes:
        images: uint8 (N, C, H, W); or one such tensor per view, if the workers have cropped the images.
        labels: Class indices, int64 (N,), or None for data without labels.
        indices: Positions of the images in the data set, int64 (N,).
        numbers: The images' rows of `ViewPipeline.draw`, on the CPU; None lets the pipeline draw them.
        rows: Positions of the images in the joined batch of all processes, int64 (N,), on the CPU.
        joined: Number of images in the joined batch.
        step: 0-based index of the update.
    """

    images: Tensor | tuple[Tensor, ...]
    labels: Tensor | None
    indices: Tensor
    numbers: Tensor | None = None
    rows: Tensor | None = None
    joined: int = 0
    step: int = 0

    def to(self, device: torch.device) -> Batch:
        """Copies images, labels and indices to a device, without waiting for the copy."""
        return self._changed(lambda x: x.to(device, non_blocking=True), "images", "labels", "indices")

    def split(self, count: int) -> list[Batch]:
        """Splits the batch into `count` micro-batches of equal size; `count` must divide the number of images."""
        size = len(self.indices) // count
        parts = (operator.itemgetter(slice(k * size, (k + 1) * size)) for k in range(count))
        return [self._changed(part, "images", "labels", "indices", "numbers", "rows") for part in parts]

    def _changed(self, change: Callable[[Tensor], Tensor], *names: str) -> Batch:
        """Applies a function to the tensors in these attributes."""

        def apply(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(change, value))
            return None if value is None else change(value)

        return replace(self, **{name: apply(getattr(self, name)) for name in names})


class BatchRandom:
    """Random numbers for what a method draws itself, such as permutations, masks and negatives.

    They are drawn on the CPU for the joined batch, so they are the same in one process and in many, and for a whole
    batch and its micro-batches, provided that every part of the batch makes the same calls in the same order.

    Args:
        count: Number of images in the joined batch.
        rows: Positions (N,) of this batch's images in the joined batch; None is the joined batch itself.
        generator: CPU generator, with the same state for every part of the batch; None is torch's default generator.
    """

    def __init__(self, count: int, rows: Tensor | None = None, generator: torch.Generator | None = None) -> None:
        self.count, self._rows, self._generator = count, rows, generator

    def per_image(self, *shape: int) -> Tensor:
        """Draws numbers for each image of this batch: (N, *shape) in [0, 1)."""
        return self.local(self.joint(*shape))

    def shared(self, *shape: int) -> Tensor:
        """Draws numbers that all images, processes and micro-batches of the update share: (*shape) in [0, 1)."""
        return torch.rand(*shape, generator=self._generator)

    def joint(self, *shape: int) -> Tensor:
        """Draws numbers for every image of the joined batch: (count, *shape) in [0, 1)."""
        return self.shared(self.count, *shape)

    def local(self, joint: Tensor) -> Tensor:
        """Returns the rows of this batch's images from a tensor (count, ...) for the joined batch."""
        return joint if self._rows is None else joint[self._rows]


@dataclass(frozen=True)
class Views:
    """Augmented views of one batch of images.

    Every view is a float tensor (N, C, H, W) with the same images in the same order.

    Attributes:
        large: Views of the largest size (DINO's global crops); all views if they have the same size.
        small: Views of smaller sizes (DINO's local crops).
        labels: Class indices (N,), or None if the data set has no labels. Only supervised methods use them.
        indices: Indices of the images in the data set (N,).
        random: Random numbers for the method. The trainer seeds them by the step; None draws from torch's default
            generator.
    """

    large: tuple[Tensor, ...]
    small: tuple[Tensor, ...] = ()
    labels: Tensor | None = None
    indices: Tensor | None = None
    random: BatchRandom = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.random is None:
            object.__setattr__(self, "random", BatchRandom(len(self.large[0]) if self.large else 0))


@dataclass(frozen=True)
class Progress:
    """Training progress at one optimizer update.

    Attributes:
        step: 0-based index of the current optimizer update, the same in all its hooks and schedules.
        total_steps: Number of optimizer updates in the whole run.
        steps_per_epoch: Number of optimizer updates per epoch.
        schedule_steps: Number of updates after which schedules other than the learning rate stay at their final value;
            less than `total_steps` if a finished run was made longer. None is `total_steps`.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    schedule_steps: int | None = None

    @property
    def fraction(self) -> float:
        """Fraction of the schedules completed before this update, in [0, 1]."""
        return min(1.0, self.step / (self.schedule_steps or self.total_steps))

    @property
    def settled(self) -> Progress:
        """The progress at which a function of `step` and `total_steps` has its value of this update.

        It is the end of the schedules for every update after them.
        """
        steps = self.schedule_steps or self.total_steps
        return Progress(min(self.step, steps), steps, self.steps_per_epoch)

    @property
    def epoch(self) -> int:
        """0-based index of the current epoch."""
        return self.step // self.steps_per_epoch


@dataclass(frozen=True)
class StepOutput:
    """Output of a method's forward pass on one batch.

    Attributes:
        loss: Scalar to minimize.
        metrics: Detached scalars to log.
        embeddings: Detached embeddings (N, D) of the first view, for diagnostics.
        embeddings_b: Detached embeddings (N, D) of the second view of the same images.
        assignments: Detached probabilities (N, K) of the first view over the prototypes, if the method has prototypes.
        features: Features (N, D) of the first view with their gradient, for `Method.regularizers`.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    embeddings: Tensor | None = None
    embeddings_b: Tensor | None = None
    assignments: Tensor | None = None
    features: Tensor | None = None


@dataclass(frozen=True)
class NonFinite:
    """An update whose loss, gradients or weights became NaN or infinite.

    Attributes:
        step: 0-based index of the update.
        reason: Message that says which value became NaN or infinite, and the likely cause.
        indices: Indices of the update's images in the data set (N,); empty if unknown.
        loss: The non-finite loss, or the last loss of the update; None if unknown.
        lr: The learning rate of the update; None if unknown.
        skipped: Number of consecutive skipped updates including this one; 0 if the run stops here.
    """

    step: int
    reason: str
    indices: Tensor
    loss: float | None = None
    lr: float | None = None
    skipped: int = 0
