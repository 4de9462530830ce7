"""Method: base class of all self-supervised methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ssl_lib.backbones.base import Needs
from ssl_lib.ema import EMATeacher
from ssl_lib.optim import cosine_schedule, param_groups
from ssl_lib.optim.peak import LRScaling
from ssl_lib.types import Progress, StepOutput, Views

__all__ = ["Method", "backbones"]

Family = Literal["joint_embedding", "clustering", "masked", "predictive", "dense", "pretext"]


class Method(nn.Module, ABC):
    """A backbone, its heads and a loss, combined into one training step.

    A subclass sets `backbone` and implements `forward`; all other hooks have defaults. All hooks of one optimizer
    update receive the same `Progress`.

    Attributes:
        backbone: Network to train: (N, C, H, W) -> (N, out_dim), with an `out_dim` attribute.
        momentum: Initial EMA momentum of the teachers, for methods that have teachers.
        final_momentum: EMA momentum at the end of the run; equal to `momentum` it is constant.
        regularizers: Losses of `StepOutput.features` that the trainer adds: by name, the weight and the loss, such as
            `{"koleo": (0.1, KoLeoLoss())}`.
        sync_batchnorm: Whether BatchNorm statistics are synchronized across processes, as in most references.
        lr_scaling: How the reference scales its learning rate with the batch size; used if `Schedule.lr_scaling` is
            None. None leaves the choice to the optimizer, whose default is "linear".
        family: Kind of method, which groups the lists of methods.
        needs: What the method needs of its backbone besides `forward`; see `check_backbone`.
        colors: Whether the images must have colors, in three channels.
        supervised: Whether the images must have labels.
    """

    backbone: nn.Module
    momentum: float
    final_momentum: float = 1.0
    regularizers: Mapping[str, tuple[float, nn.Module]] = MappingProxyType({})
    sync_batchnorm = True
    lr_scaling: ClassVar[LRScaling | None] = None
    family: ClassVar[Family] = "joint_embedding"
    needs: ClassVar[Needs] = "features"
    colors: ClassVar[bool] = False
    supervised: ClassVar[bool] = False

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
        """EMA momentum at this update, in [0, 1]; a cosine over the run from `momentum` to `final_momentum`.

        If a finished run is made longer, the trainer passes the end of the schedules, `Progress.settled`.
        """
        return cosine_schedule(progress.step, progress.total_steps, self.momentum, self.final_momentum)

    def chance_loss(self, num_images: int) -> float | None:
        """Loss of uninformative embeddings for a global batch of `num_images`; None if unknown."""
        return None

    def before_epoch(self, progress: Progress, encode: Callable[[nn.Module], Tensor]) -> None:
        """Runs before the first update of every epoch, in all processes together, e.g. to cluster the images.

        A run that is resumed within an epoch does not repeat it, so what the epoch needs must be kept in buffers.

        Args:
            progress: Of the epoch's first update.
            encode: Computes the outputs (M, D) of a network for all M training images, by index, on the CPU: without
                augmentation, in eval mode, and zero for images that are left out or cannot be read. In the dry run of
                `build`, M is the size of a small batch.
        """

    def before_update(self, progress: Progress) -> None:
        """Runs after backward and before gradient clipping and the optimizer step; may edit the unscaled gradients."""

    def after_update(self, progress: Progress) -> None:
        """Runs once per optimizer update, after the step and the updates of teachers and memories."""

    def on_skipped_update(self, progress: Progress) -> None:
        """Runs instead of `after_update` if the update was skipped because of non-finite values."""


def backbones(method: Method) -> set[nn.Module]:
    """Returns the backbones of the student and its teachers."""
    return {method.backbone, *(teacher.parts[0] for teacher, _ in method.ema_pairs())}
