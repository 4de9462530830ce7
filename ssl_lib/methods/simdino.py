"""SimDINO: DINO with the coding rate in place of prototypes, centering and temperatures."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.ema import EMATeacher
from ssl_lib.heads import mlp
from ssl_lib.losses import CodingRateLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.utils.rows import unit_rows
from ssl_lib.views.inputs import multi_crop


@METHODS.register("simdino")
class SimDINO(Method):
    """SimDINO (Wu et al. 2025, arXiv:2502.10385; RobinWu218/SimDINO, simdino/main_dino.py and vision_transformer.py).

    Views of the same size share one forward pass. The teacher gets only the large views; its backbone is evaluated. The
    coding rate is that of the images of all processes, as in the reference with `--reduce_cov=1`.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim); its drop path is active only in the student.
        hidden_dim: Width of the head's two hidden layers.
        out_dim: Width of the features that are compared.
        eps: Precision of the coding rate, > 0; 0.05 in the reference's run on ImageNet.
        weight: Weight of the similarity, >= 0.
        expansion: Features that are spread: "mean", of the student's and the teacher's; or "student".
        momentum: Initial EMA momentum of the teacher, in [0, 1]; increases to 1 by a cosine.
    """

    family = "clustering"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 256,
        eps: float = 0.5,
        weight: float = 1.0,
        expansion: Literal["mean", "student"] = "mean",
        momentum: float = 0.996,
    ) -> None:
        super().__init__()
        self.backbone, self.momentum = backbone, momentum
        widths = [feature_dim(backbone), hidden_dim, hidden_dim, out_dim]
        self.projector = mlp(widths, norm=False, activation="gelu", init_std=0.02)
        self.teacher = EMATeacher(self.backbone, self.projector)
        self.loss = CodingRateLoss(eps, weight, expansion)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Matches the student's features of each view with the teacher's features of the other views of the image."""
        features = multi_crop(self.backbone, views)
        student = unit_rows(self.projector(features)).chunk(len(views.large + views.small))
        teacher = unit_rows(self.teacher(torch.cat(views.large))).chunk(len(views.large))
        first = features[: len(student[0])]
        return StepOutput(self.loss(student, teacher), {}, student[0].detach(), student[1].detach(), features=first)

    @property
    def encoder(self) -> nn.Module:
        """The teacher's backbone."""
        return self.teacher.parts[0]

    def ema_pairs(self) -> list[tuple[EMATeacher, tuple[nn.Module, ...]]]:
        """The teacher averages the backbone and projector."""
        return [(self.teacher, (self.backbone, self.projector))]
