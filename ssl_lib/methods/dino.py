"""DINO: self-distillation with no labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.ema import EMATeacher
from ssl_lib.heads import Prototypes, mlp
from ssl_lib.losses import DINOLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views


@METHODS.register("dino")
class DINO(Method):
    """DINO (Caron et al. 2021, arXiv:2104.14294; facebookresearch/dino, main_dino.py and vision_transformer.py).

    Views of one size pass the networks together. The teacher, which sees the large views only, is what is evaluated.

    Args:
        backbone: (N, C, H, W) -> (N, out_dim); its drop path acts in the student only.
        hidden_dim: Width of the head's two hidden layers.
        bottleneck_dim: Width of the normalized vector before the prototypes.
        num_prototypes: Width of the output; 65536 on ImageNet, 4096 on CIFAR.
        free_prototype_scale: Learn the prototypes' norms (boosted 300-epoch recipe) instead of fixing them at 1.
        student_temperature: Of the student's softmax, > 0.
        teacher_temperature: Of the teacher's softmax, > 0; .07 in the boosted recipe.
        warmup_teacher_temperature: Where it begins, > 0, to rise epoch by epoch to `teacher_temperature`.
        warmup_temperature_epochs: Epochs of that rise; 30 in the boosted recipe.
        center_momentum: Of the center of the teacher's outputs, in [0, 1).
        momentum: The teacher's at the start, rising to 1 by cosine; .9995 for batches of 256.
        freeze_prototypes: Epochs in which the prototypes do not move.
    """

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
        rise = np.linspace(warmup_teacher_temperature, teacher_temperature, warmup_temperature_epochs)
        self.teacher_temperatures = [*rise.tolist(), teacher_temperature]  # by epoch; the last one holds on

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Matches the student's output for each view to the teacher's for another view of the image."""
        features = torch.cat([self.backbone(torch.cat(same)) for same in (views.large, views.small) if same])
        student = self.prototypes(self.projector(features)).chunk(len(views.large + views.small))
        teacher = self.teacher(torch.cat(views.large)).chunk(len(views.large))
        temperature = self.teacher_temperatures[min(progress.epoch, len(self.teacher_temperatures) - 1)]
        first, second = features.detach().split(len(student[0]))[:2]
        assignments = self.loss.targets(teacher[:1], temperature)[0]
        return StepOutput(self.loss(student, teacher, temperature), {}, first, second, assignments)

    def chance_loss(self, num_images: int) -> float:
        """Every one of K prototypes is as likely: ln K."""
        return float(np.log(self.loss.num_prototypes))

    @property
    def encoder(self) -> nn.Module:
        """The teacher's backbone."""
        return self.teacher.parts[0]

    def ema_pairs(self) -> Sequence[tuple[EMATeacher, Sequence[nn.Module]]]:
        """The teacher follows the backbone and the whole head."""
        return [(self.teacher, (self.backbone, self.projector, self.prototypes))]

    def before_update(self, progress: Progress) -> None:
        """Drops the prototypes' gradient in the first epochs."""
        if progress.epoch < self.freeze_prototypes:
            self.prototypes.zero_grad(set_to_none=True)

    def after_update(self, progress: Progress) -> None:
        """Moves the center."""
        self.loss.update_center()

    def on_skipped_update(self, progress: Progress) -> None:
        """Forgets what would have moved the center."""
        self.loss.discard()
