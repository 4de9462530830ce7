"""MoCo v3: momentum contrast among the keys of a large batch, with a predictor and without a queue."""

from __future__ import annotations

import math

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.ema import EMATeacher
from ssl_lib.heads import mlp
from ssl_lib.losses import MoCoV3Loss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("moco_v3")
class MoCoV3(Method):
    """MoCo v3 for ResNets (Chen et al. 2021, arXiv:2104.02057; facebookresearch/moco-v3, moco/builder.py).

    Each view is a separate forward pass. The loss is the sum of both directions. The heads are those of the reference's
    ResNets.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Hidden width of the projector and the predictor.
        out_dim: Width of the projection and the prediction.
        temperature: Softmax temperature, > 0; 1.0 on ImageNet, 0.2 on CIFAR-10 (solo-learn).
        momentum: Initial EMA momentum of the teacher, in [0, 1]; increases to 1 by a cosine. 0.99 for 100 and 300
            epochs, 0.996 for 1000.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        temperature: float = 1.0,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        self.backbone, self.momentum = backbone, momentum
        dims = [feature_dim(backbone), hidden_dim, out_dim]
        self.projector = mlp(dims, bias=False, last_bias=False, last_norm="plain")
        self.predictor = mlp([out_dim, hidden_dim, out_dim], bias=False, last_bias=False)
        self.teacher = EMATeacher(self.backbone, self.projector)
        self.loss = MoCoV3Loss(temperature)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Contrasts each view's prediction with the teacher's projections of the other view."""
        x_a, x_b = view_pair(views)
        features_a, features_b = self.backbone(x_a), self.backbone(x_b)
        z_a, z_b = self.projector(features_a), self.projector(features_b)
        key_a, key_b = self.teacher(x_a), self.teacher(x_b)
        loss = self.loss(self.predictor(z_a), key_b) + self.loss(self.predictor(z_b), key_a)
        return StepOutput(loss, {}, z_a.detach(), z_b.detach(), features=features_a)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over the N keys, in both directions: 4T ln N."""
        return 4 * self.loss.temperature * math.log(num_images)

    def ema_pairs(self) -> list[tuple[EMATeacher, tuple[nn.Module, ...]]]:
        """The teacher averages the backbone and projector; it has no predictor."""
        return [(self.teacher, (self.backbone, self.projector))]
