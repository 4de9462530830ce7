"""The values that travel between the parts: views in, a step's output out."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["NonFinite", "Progress", "StepOutput", "Views"]


@dataclass(frozen=True)
class Views:
    """The augmented views of one batch of images.

    Every view is a float tensor (N, C, H, W) that shows the same images in the same order.

    Attributes:
        large: The views at the largest size (DINO's global crops; all views where there is one size).
        small: The views at smaller sizes (DINO's local crops).
        labels: Class indices (N,), where the data have them. Methods ignore them unless supervised.
        indices: Positions of the images in the data set (N,).
    """

    large: tuple[Tensor, ...]
    small: tuple[Tensor, ...] = ()
    labels: Tensor | None = None
    indices: Tensor | None = None


@dataclass(frozen=True)
class Progress:
    """Where training stands.

    Attributes:
        step: 0-based index of the optimizer update under way, the same in every hook and schedule of it.
        total_steps: Number of optimizer updates of the whole run.
        steps_per_epoch: Number of optimizer updates per epoch.
    """

    step: int
    total_steps: int
    steps_per_epoch: int

    @property
    def fraction(self) -> float:
        """The share of the run before this update, in [0, 1]."""
        return min(1.0, self.step / self.total_steps)

    @property
    def epoch(self) -> int:
        """0-based index of the epoch under way."""
        return self.step // self.steps_per_epoch


@dataclass(frozen=True)
class StepOutput:
    """What a method returns for one batch.

    Attributes:
        loss: Scalar to minimize.
        metrics: Detached scalars to log.
        embeddings: Detached embeddings (N, D) of the batch's first view, for diagnosis.
        embeddings_b: Those of the same images' second view (N, D).
        assignments: Detached distributions (N, K) of the first view over prototypes, where there are prototypes.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    embeddings: Tensor | None = None
    embeddings_b: Tensor | None = None
    assignments: Tensor | None = None


@dataclass(frozen=True)
class NonFinite:
    """An update whose loss, gradients or weights became NaN or infinite.

    Attributes:
        step: 0-based index of the update.
        reason: What became of what, in words.
        indices: Positions of the update's images in the data set (N,), where they are still known.
        loss: The bad loss, or the last one of the update; None where it is no longer known.
        lr: The learning rate.
        skipped: Number of updates skipped in a row, this one included; 0 where the run stops here.
    """

    step: int
    reason: str
    indices: Tensor
    loss: float | None = None
    lr: float | None = None
    skipped: int = 0
