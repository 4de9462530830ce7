"""MMCR: maximum manifold capacity representations."""

from __future__ import annotations

import torch
from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.ema import EMATeacher
from ssl_lib.heads import mlp
from ssl_lib.losses import MMCRLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import multi_crop


@METHODS.register("mmcr")
class MMCR(Method):
    """MMCR (Yerxa et al. 2023, arXiv:2303.03307; ThomasYerxa/mmcr, mmcr/imagenet/models.py and train.py).

    Two or more views share one forward pass; the teacher gets the large ones. The reference gathers the embeddings of
    other processes without gradient and averages the gradients, so its gradient is smaller by the number of processes;
    here several processes equal one.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's two hidden layers.
        out_dim: Width of the embeddings.
        local_weight: Weight of the mean nuclear norm of the images' own views, >= 0.
        momentum: EMA momentum of the teacher, constant, in [0, 1]; None trains without a teacher, as the reference does
            on CIFAR-10 and STL-10.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 8192,
        out_dim: int = 512,
        local_weight: float = 0.0,
        momentum: float | None = 0.99,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        widths = [feature_dim(backbone), hidden_dim, hidden_dim, out_dim]
        self.projector = mlp(widths, bias=False, last_bias=False)
        self.teacher = None if momentum is None else EMATeacher(self.backbone, self.projector)
        self.momentum = self.final_momentum = 1.0 if momentum is None else momentum
        self.loss = MMCRLoss(local_weight)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Spreads the images' centroids, over the views of the student and the teacher, in all directions."""
        features, count = multi_crop(self.backbone, views), len(views.large[0])
        z = self.projector(features).unflatten(0, (-1, count)).transpose(0, 1)  # (N, V, D)
        momentum = None
        if self.teacher is not None:
            momentum = self.teacher(torch.cat(views.large)).unflatten(0, (-1, count)).transpose(0, 1)
        loss = self.loss(z, momentum)
        return StepOutput(loss, {}, z[:, 0].detach(), z[:, -1].detach(), features=features[:count])

    def ema_pairs(self) -> list[tuple[EMATeacher, tuple[nn.Module, ...]]]:
        """The teacher averages the backbone and projector."""
        return [] if self.teacher is None else [(self.teacher, (self.backbone, self.projector))]
