"""TiCo: transformation invariance and covariance contrast."""

from __future__ import annotations

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.ema import EMATeacher
from ssl_lib.heads import mlp
from ssl_lib.losses import TiCoLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("tico")
class TiCo(Method):
    """TiCo (Zhu et al. 2022, arXiv:2206.10698; lightly, loss/tico_loss.py and benchmarks/imagenet/resnet50/tico.py).

    The first view is the student's, the second the teacher's. The authors published no code. As in lightly, the second
    moment of the batch has no gradient where it enters the moving average; in sayannag/TiCo-pytorch it has one.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layer.
        out_dim: Width of the embeddings.
        beta: Momentum of the moving second moment, in [0, 1].
        rho: Weight of the covariance contrast, >= 0.
        momentum: Initial EMA momentum of the teacher, in [0, 1]; increases to 1 by a cosine.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        beta: float = 0.9,
        rho: float = 8.0,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        self.backbone, self.momentum = backbone, momentum
        self.projector = mlp([feature_dim(backbone), hidden_dim, out_dim], bias=False)
        self.teacher = EMATeacher(self.backbone, self.projector)
        self.loss = TiCoLoss(out_dim, beta, rho)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Compares the student's embedding of one view with the teacher's of the other."""
        x_a, x_b = view_pair(views)
        features = self.backbone(x_a)
        z_a, z_b = self.projector(features), self.teacher(x_b)
        return StepOutput(self.loss(z_a, z_b), {}, z_a.detach(), z_b, features=features)

    def ema_pairs(self) -> list[tuple[EMATeacher, tuple[nn.Module, ...]]]:
        """The teacher averages the backbone and projector."""
        return [(self.teacher, (self.backbone, self.projector))]
