"""Barlow Twins: self-supervised learning by redundancy reduction."""

from __future__ import annotations

from typing import Any

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import BarlowTwinsLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("barlow_twins")
class BarlowTwins(Method):
    """Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230; facebookresearch/barlowtwins, main.py).

    Each view is a separate forward pass, so BatchNorm uses the statistics of one view.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's two hidden layers.
        out_dim: Width of the embedding.
        redundancy_weight: Weight of the off-diagonal terms, >= 0.
        scale: Factor applied to the whole loss, > 0; 0.1 in solo-learn's CIFAR recipe.
        hsic: Whether off-diagonal correlations are driven to -1, the HSIC form of arXiv:2104.13712; otherwise to 0. Its
            code has an `out_dim` of 128 and a `redundancy_weight` of 1 / 128.
        bias_lr_scale: Learning rate of biases and norm layers divided by the learning rate of weights; 0.0048 / 0.2 in
            the reference.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 8192,
        out_dim: int = 8192,
        redundancy_weight: float = 0.0051,
        scale: float = 1.0,
        hsic: bool = False,
        bias_lr_scale: float = 0.024,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        widths = [feature_dim(backbone), hidden_dim, hidden_dim, out_dim]
        self.projector = mlp(widths, bias=False, last_bias=False)
        self.loss = BarlowTwinsLoss(redundancy_weight, scale, hsic)
        self.bias_lr_scale = bias_lr_scale

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Compares the cross-correlation matrix of the two views' embeddings with the identity."""
        x_a, x_b = view_pair(views)
        features_a, features_b = self.backbone(x_a), self.backbone(x_b)
        z_a, z_b = self.projector(features_a), self.projector(features_b)
        return StepOutput(self.loss(z_a, z_b), {}, z_a.detach(), z_b.detach(), features=features_a)

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Scales the learning rate of biases and norm layers by `bias_lr_scale`."""
        groups = super().param_groups(weight_decay)
        return [group | {"lr_scale": 1.0 if group["adapt"] else self.bias_lr_scale} for group in groups]
