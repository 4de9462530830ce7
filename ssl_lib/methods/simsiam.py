"""SimSiam: simple siamese representation learning with a stop-gradient."""

from __future__ import annotations

from typing import Any

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import NegativeCosineLoss
from ssl_lib.methods.base import Method
from ssl_lib.optim.param_groups import param_groups
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("simsiam")
class SimSiam(Method):
    """SimSiam (Chen and He 2020, arXiv:2011.10566; facebookresearch/simsiam, simsiam/builder.py and main_simsiam.py).

    Each view is a separate forward pass. Weight decay applies to all parameters, including norm layers and biases.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's two hidden layers.
        out_dim: Width of the projection and the prediction.
        predictor_dim: Hidden width of the predictor.
        fix_predictor_lr: Whether to keep the predictor's learning rate constant at its peak.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 2048,
        predictor_dim: int = 512,
        fix_predictor_lr: bool = True,
    ) -> None:
        super().__init__()
        self.backbone, self.fix_predictor_lr = backbone, fix_predictor_lr
        widths = [feature_dim(backbone), hidden_dim, hidden_dim, out_dim]
        self.projector = mlp(widths, bias=False, last_bias=False, last_norm="plain")
        self.predictor = mlp([out_dim, predictor_dim, out_dim], bias=False)
        self.loss = NegativeCosineLoss()

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Predicts the projection of each view from the other view, without gradient through the target."""
        x_a, x_b = view_pair(views)
        features_a, features_b = self.backbone(x_a), self.backbone(x_b)
        z_a, z_b = self.projector(features_a), self.projector(features_b)
        loss = (self.loss(self.predictor(z_a), z_b) + self.loss(self.predictor(z_b), z_a)) / 2
        return StepOutput(loss, {}, z_a.detach(), z_b.detach(), features=features_a)

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Applies weight decay to all parameters and optionally fixes the predictor's learning rate."""
        groups = param_groups(nn.ModuleList([self.backbone, self.projector]), weight_decay)
        predictor = param_groups(self.predictor, weight_decay)
        decay = {"weight_decay": weight_decay}
        return [g | decay for g in groups] + [g | decay | {"fixed_lr": self.fix_predictor_lr} for g in predictor]
