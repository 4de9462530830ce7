"""YADIM: contrast of the last features of two views by clipped dot products."""

from __future__ import annotations

import math

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import AMDIMLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("yadim")
class YADIM(Method):
    """YADIM (Falcon and Cho 2020, arXiv:2009.00104; loss: Lightning-Universe/lightning-bolts, AmdimNCELoss).

    AMDIM without its comparison of several scales: only the last features of the two views are compared. Here they are
    the pooled features behind a projector; AMDIM's encoder ends in a feature map of one place.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layer.
        out_dim: Width of the embedding.
        clip: Largest absolute score, > 0; 10 to 20 in AMDIM.
        penalty: Weight of the squared scores, >= 0.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 1024,
        clip: float = 10.0,
        penalty: float = 0.05,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = mlp(
            [feature_dim(backbone), hidden_dim, out_dim], bias=False, last_bias=False, last_norm="affine"
        )
        self.loss = AMDIMLoss(clip, penalty)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Identifies each image in the other view, in both directions."""
        x_a, x_b = view_pair(views)
        features_a, features_b = self.backbone(x_a), self.backbone(x_b)
        z_a, z_b = self.projector(features_a), self.projector(features_b)
        return StepOutput(self.loss(z_a, z_b), {}, z_a.detach(), z_b.detach(), features=features_a)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over the N images of the other view: ln N."""
        return math.log(num_images)
