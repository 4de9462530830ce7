"""The contract of a self-supervised method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssl_lib.ema import EMATeacher
from ssl_lib.optim import cosine_schedule, param_groups
from ssl_lib.types import Progress, StepOutput, Views

__all__ = ["Method", "backbones", "check_method", "checked_output", "view_pair"]


class Method(nn.Module, ABC):
    """A backbone, its heads and a loss, composed into one training step.

    A subclass sets `backbone` and implements `forward`; every other hook has a default that does nothing. Each hook
    of one optimizer update receives the same `Progress`.

    Attributes:
        backbone: The network to be learned: (N, C, H, W) -> (N, out_dim), with an `out_dim` attribute.
        momentum: The teachers' momentum at the start, in methods that have teachers.
        sync_batchnorm: Whether several processes normalize by the statistics of all their images, as most references.
    """

    backbone: nn.Module
    momentum: float
    sync_batchnorm = True

    @abstractmethod
    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Computes the loss of one batch (of one micro-batch, under gradient accumulation)."""

    @property
    def encoder(self) -> nn.Module:
        """The network that evaluation and export take: the backbone, unless the method is known by its teacher."""
        return self.backbone

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Sorts the trainable parameters for the optimizer; see `ssl_lib.optim.param_groups`."""
        return param_groups(self, weight_decay)

    def ema_pairs(self) -> Sequence[tuple[EMATeacher, Sequence[nn.Module]]]:
        """Names each teacher and the student's parts it follows."""
        return ()

    def ema_momentum(self, progress: Progress) -> float:
        """The teachers' momentum at this update, in [0, 1]: from `self.momentum` to 1 by cosine over the run."""
        return cosine_schedule(progress.step, progress.total_steps, self.momentum, 1.0)

    def chance_loss(self, num_images: int) -> float | None:
        """The loss of embeddings that tell nothing of N images, over all processes; None where it is not known."""
        return None

    def before_update(self, progress: Progress) -> None:
        """Runs between backward (gradients unscaled, not yet clipped) and the optimizer's step; may edit gradients."""

    def after_update(self, progress: Progress) -> None:
        """Runs once per optimizer update, after the step and the teachers' move: centers, queues."""

    def on_skipped_update(self, progress: Progress) -> None:
        """Runs instead of `after_update` when numbers were not finite and the optimizer did not step."""


def backbones(method: Method) -> set[nn.Module]:
    """The networks that see images: the student's, and those of its teachers."""
    return {method.backbone, *(teacher.parts[0] for teacher, _ in method.ema_pairs())}


def check_method(method: object) -> None:
    """Refuses what is no method, or has no backbone.

    Raises:
        TypeError: The message says which.
    """
    if not isinstance(method, Method):
        raise TypeError(f"expected a Method, got {type(method).__name__}: subclass ssl_lib.Method")
    if not isinstance(getattr(method, "backbone", None), nn.Module):
        raise TypeError(f"{type(method).__name__} must set self.backbone, the network to be learned")


def checked_output(output: object, method: Method) -> StepOutput:
    """What a method's forward returned, as the trainer needs it.

    Raises:
        TypeError: It is no `StepOutput`.
        ValueError: Its loss is no scalar tensor, or depends on no parameter.
    """
    name = f"{type(method).__name__}.forward"
    if not isinstance(output, StepOutput):
        raise TypeError(f"{name} must return a StepOutput(loss), got {type(output).__name__}")
    if not isinstance(output.loss, Tensor) or output.loss.ndim:
        found = f"shape {tuple(output.loss.shape)}" if isinstance(output.loss, Tensor) else type(output.loss).__name__
        raise ValueError(f"{name} must return a scalar loss, such as a mean over the batch; got {found}")
    if torch.is_grad_enabled() and not output.loss.requires_grad:
        raise ValueError(f"{name} returned a loss that depends on no trainable parameter: was it detached?")
    return output


def view_pair(views: Views) -> tuple[Tensor, Tensor]:
    """The two views that a siamese method compares.

    Raises:
        ValueError: There are not exactly two large views and no small ones.
    """
    if len(views.large) != 2 or views.small:
        raise ValueError(
            f"this method compares two views of each image, got {len(views.large)} large and {len(views.small)} small "
            "ones: use a preset with two views, such as `views: {preset: simclr}`"
        )
    return views.large[0], views.large[1]
