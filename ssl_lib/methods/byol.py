"""BYOL: bootstrap your own latent, self-supervised learning with an EMA teacher and no negatives."""

from __future__ import annotations

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.ema import EMATeacher
from ssl_lib.heads import mlp
from ssl_lib.losses import NegativeCosineLoss, RAFTLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("byol")
class BYOL(Method):
    """BYOL (Grill et al. 2020, arXiv:2006.07733; deepmind-research/byol/byol_experiment.py).

    Each view is a separate forward pass. The loss is the sum of both regression losses (2 - 2 cos), in [0, 8]. With
    `raft`, it is the loss of RAFT (Shi et al. 2020, arXiv:2011.10944; WOWNICE/RAFT, models/main/raft.py; see
    `RAFTLoss`): the predictions of both views move toward each other and away from the teacher.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Hidden width of the projector and the predictor.
        out_dim: Width of the projection and the prediction.
        momentum: Initial EMA momentum of the teacher, in [0, 1]; increases to 1 by a cosine. 0.996 for 1000 epochs,
            0.99 for 100 to 300, 0.97 for 40.
        raft: Whether to use RAFT's loss, in [-4, 4], in place of BYOL's.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        momentum: float = 0.996,
        raft: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = mlp([feature_dim(backbone), hidden_dim, out_dim], last_bias=False)
        self.predictor = mlp([out_dim, hidden_dim, out_dim], last_bias=False)
        self.teacher = EMATeacher(self.backbone, self.projector)
        self.loss, self.raft = NegativeCosineLoss(), RAFTLoss() if raft else None
        self.momentum = momentum

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Predicts the teacher's projection of each view from the other view."""
        x_a, x_b = view_pair(views)
        features_a, features_b = self.backbone(x_a), self.backbone(x_b)
        z_a, z_b = self.projector(features_a), self.projector(features_b)
        p_a, target_b = self.predictor(z_a), self.teacher(x_b)
        p_b, target_a = self.predictor(z_b), self.teacher(x_a)
        if self.raft is None:
            loss = (2 + 2 * self.loss(p_a, target_b)) + (2 + 2 * self.loss(p_b, target_a))
        else:
            loss = self.raft(p_a, p_b, target_a, target_b)
        return StepOutput(loss, {}, z_a.detach(), z_b.detach(), features=features_a)

    def ema_pairs(self) -> list[tuple[EMATeacher, tuple[nn.Module, ...]]]:
        """The teacher averages the backbone and projector; it has no predictor."""
        return [(self.teacher, (self.backbone, self.projector))]
