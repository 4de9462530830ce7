"""Method: base class of all self-supervised methods, and checks of its interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_lib.ema import EMATeacher
from ssl_lib.optim import cosine_schedule, param_groups
from ssl_lib.optim.peak import LRScaling
from ssl_lib.types import Progress, StepOutput, Views

__all__ = ["Method", "backbones", "check_method", "checked_output", "view_pair"]


class Method(nn.Module, ABC):
    """A backbone, its heads and a loss, combined into one training step.

    A subclass sets `backbone` and implements `forward`; all other hooks have defaults. All hooks of one optimizer
    update receive the same `Progress`.

    Attributes:
        backbone: Network to train: (N, C, H, W) -> (N, out_dim), with an `out_dim` attribute.
        momentum: Initial EMA momentum of the teachers, for methods that have teachers.
        sync_batchnorm: Whether BatchNorm statistics are synchronized across processes, as in most references.
        lr_scaling: How the reference scales its learning rate with the batch size; used if `Schedule.lr_scaling` is
            None. None leaves the choice to the optimizer, whose default is "linear".
    """

    backbone: nn.Module
    momentum: float
    sync_batchnorm = True
    lr_scaling: ClassVar[LRScaling | None] = None

    @abstractmethod
    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Computes the loss of one batch, or of one micro-batch under gradient accumulation."""

    @property
    def encoder(self) -> nn.Module:
        """Network that is evaluated and exported: the backbone, or the teacher's backbone in methods such as DINO."""
        return self.backbone

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Returns parameter groups for the optimizer; see `ssl_lib.optim.param_groups`."""
        return param_groups(self, weight_decay)

    def ema_pairs(self) -> Sequence[tuple[EMATeacher, Sequence[nn.Module]]]:
        """Returns pairs of a teacher and the student modules that it averages."""
        return ()

    def ema_momentum(self, progress: Progress) -> float:
        """EMA momentum at this update, in [0, 1]; increases from `self.momentum` to 1 by a cosine over the run.

        If a finished run is made longer, the trainer passes the end of the schedules, `Progress.settled`.
        """
        return cosine_schedule(progress.step, progress.total_steps, self.momentum, 1.0)

    def chance_loss(self, num_images: int) -> float | None:
        """Loss of uninformative embeddings for a global batch of `num_images`; None if unknown."""
        return None

    def before_update(self, progress: Progress) -> None:
        """Runs after backward and before gradient clipping and the optimizer step; may edit the unscaled gradients."""

    def after_update(self, progress: Progress) -> None:
        """Runs once per optimizer update, after the step and the EMA update, e.g. to update a center or queue."""

    def on_skipped_update(self, progress: Progress) -> None:
        """Runs instead of `after_update` if the update was skipped because of non-finite values."""


def backbones(method: Method) -> set[nn.Module]:
    """Returns the backbones of the student and its teachers."""
    return {method.backbone, *(teacher.parts[0] for teacher, _ in method.ema_pairs())}


def check_method(method: object) -> None:
    """Checks that an object is a `Method` with a backbone.

    Raises:
        TypeError: The object is not a `Method`, or its `backbone` is not set to a module.
    """
    if not isinstance(method, Method):
        raise TypeError(f"expected a Method, got {type(method).__name__}: subclass ssl_lib.Method")
    if not isinstance(getattr(method, "backbone", None), nn.Module):
        raise TypeError(f"{type(method).__name__} must set self.backbone, the network to train")


def checked_output(output: object, method: Method) -> StepOutput:
    """Checks and returns the output of a method's forward pass.

    Raises:
        TypeError: The output is not a `StepOutput`.
        ValueError: The loss is not a scalar tensor, or does not require gradients.
    """
    name = f"{type(method).__name__}.forward"
    if not isinstance(output, StepOutput):
        raise TypeError(f"{name} must return a StepOutput(loss), got {type(output).__name__}")
    if not isinstance(output.loss, Tensor) or output.loss.ndim:
        got = f"shape {tuple(output.loss.shape)}" if isinstance(output.loss, Tensor) else type(output.loss).__name__
        raise ValueError(f"{name} must return a scalar loss, such as a mean over the batch; got {got}")
    if torch.is_grad_enabled() and not output.loss.requires_grad:
        raise ValueError(f"{name} returned a loss that depends on no trainable parameter: was it detached?")
    return output


def view_pair(views: Views) -> tuple[Tensor, Tensor]:
    """Returns the two views compared by a siamese method.

    Raises:
        ValueError: There are not exactly two large views and no small ones.
    """
    if len(views.large) != 2 or views.small:
        raise ValueError(
            f"this method compares two views of each image, got {len(views.large)} large and {len(views.small)} small "
            "views: use a preset with two views, such as `views: {preset: simclr}`"
        )
    return views.large[0], views.large[1]
