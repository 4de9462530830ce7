"""DINO: self-distillation with no labels."""

from __future__ import annotations

import math

import torch
from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.ema import EMATeacher
from ssl_lib.heads import Prototypes, mlp
from ssl_lib.losses import DINOLoss
from ssl_lib.methods.base import Method
from ssl_lib.optim import ramp
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import multi_crop


@METHODS.register("dino")
class DINO(Method):
    """DINO (Caron et al. 2021, arXiv:2104.14294; facebookresearch/dino, main_dino.py and vision_transformer.py).

    Views of the same size share one forward pass. The teacher gets only the large views; its backbone is evaluated.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim); its drop path is active only in the student.
        hidden_dim: Width of the head's two hidden layers.
        bottleneck_dim: Width of the normalized vector before the prototypes.
        num_prototypes: Number of prototypes, the output width; 65536 on ImageNet, 4096 on CIFAR.
        free_prototype_scale: Whether to learn the prototypes' norms (boosted 300-epoch recipe) instead of fixing them
            at 1.
        student_temperature: Temperature of the student's softmax, > 0.
        teacher_temperature: Temperature of the teacher's softmax after warmup, > 0; 0.07 in the boosted recipe.
        warmup_teacher_temperature: Teacher temperature in the first epoch, > 0; increases linearly per epoch to
            `teacher_temperature`.
        warmup_temperature_epochs: Number of epochs of the temperature warmup; 30 in the boosted recipe.
        center_momentum: Momentum of the center of the teacher's outputs, in [0, 1].
        momentum: Initial EMA momentum of the teacher, in [0, 1]; increases to 1 by a cosine. 0.9995 for a batch size of
            256.
        freeze_prototypes: Number of initial epochs in which the prototypes are frozen.
    """

    family = "clustering"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        num_prototypes: int = 65536,
        free_prototype_scale: bool = False,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        warmup_teacher_temperature: float = 0.04,
        warmup_temperature_epochs: int = 0,
        center_momentum: float = 0.9,
        momentum: float = 0.996,
        freeze_prototypes: int = 1,
    ) -> None:
        super().__init__()
        self.backbone, self.momentum, self.freeze_prototypes = backbone, momentum, freeze_prototypes
        widths = [feature_dim(backbone), hidden_dim, hidden_dim, bottleneck_dim]
        self.projector = mlp(widths, norm=False, activation="gelu", init_std=0.02)
        self.prototypes = Prototypes(bottleneck_dim, num_prototypes, free_scale=free_prototype_scale)
        self.teacher = EMATeacher(self.backbone, self.projector, self.prototypes)
        self.loss = DINOLoss(num_prototypes, student_temperature, center_momentum)
        self.teacher_temperature = warmup_teacher_temperature, teacher_temperature, warmup_temperature_epochs

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Matches the student's output for each view to the teacher's output for the other views of the image."""
        features = multi_crop(self.backbone, views)
        student = self.prototypes(self.projector(features)).chunk(len(views.large + views.small))
        teacher = self.teacher(torch.cat(views.large)).chunk(len(views.large))
        temperature = ramp(progress, *self.teacher_temperature)
        first, second = features.split(len(student[0]))[:2]
        assignments = self.loss.targets(teacher[:1], temperature)[0]
        loss = self.loss(student, teacher, temperature)
        return StepOutput(loss, {}, first.detach(), second.detach(), assignments, features=first)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over K prototypes: ln K."""
        return math.log(self.loss.num_prototypes)

    @property
    def encoder(self) -> nn.Module:
        """The teacher's backbone."""
        return self.teacher.parts[0]

    def ema_pairs(self) -> list[tuple[EMATeacher, tuple[nn.Module, ...]]]:
        """The teacher averages the backbone, projector and prototypes."""
        return [(self.teacher, (self.backbone, self.projector, self.prototypes))]

    def before_update(self, progress: Progress) -> None:
        """Freezes the prototypes in the first epochs by removing their gradients."""
        if progress.epoch < self.freeze_prototypes:
            self.prototypes.zero_grad(set_to_none=True)
