"""VICReg: variance-invariance-covariance regularization."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import VICRegLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("vicreg")
class VICReg(Method):
    """VICReg (Bardes et al. 2021, arXiv:2105.04906; facebookresearch/vicreg, main_vicreg.py).

    Each view is a separate forward pass, so BatchNorm uses the statistics of one view.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the expander's two hidden layers.
        out_dim: Width of the embedding.
        invariance_weight: Weight of the mean squared difference between the two views, >= 0.
        variance_weight: Weight of the hinge loss on the standard deviations, >= 0. The hinge is averaged over the two
            views as in the reference code; solo-learn sums it, so its 25 corresponds to 50 here.
        covariance_weight: Weight of the covariance term, >= 0.
        covariance: "square" for VICReg's squared covariances; "exp" for VICReg-exp and "ctr" for VICReg-ctr of
            arXiv:2206.02574, see `VICRegLoss`.
        temperature: Divides the covariances of "exp" and "ctr", > 0.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 8192,
        out_dim: int = 8192,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        covariance: Literal["square", "exp", "ctr"] = "square",
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = mlp([feature_dim(backbone), hidden_dim, hidden_dim, out_dim], last_bias=False)
        weights = invariance_weight, variance_weight, covariance_weight
        self.loss = VICRegLoss(*weights, covariance=covariance, temperature=temperature)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Computes the VICReg loss of the two views' embeddings."""
        x_a, x_b = view_pair(views)
        features_a, features_b = self.backbone(x_a), self.backbone(x_b)
        z_a, z_b = self.projector(features_a), self.projector(features_b)
        return StepOutput(self.loss(z_a, z_b), {}, z_a.detach(), z_b.detach(), features=features_a)
