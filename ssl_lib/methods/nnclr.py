"""NNCLR: contrastive learning with nearest neighbors from a queue as positives."""

from __future__ import annotations

import math

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import InfoNCELoss
from ssl_lib.memory import FeatureQueue
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("nnclr")
class NNCLR(Method):
    """NNCLR (Dwibedi et al. 2021, arXiv:2104.14548, section 3; no official code; solo-learn, solo/methods/nnclr.py).

    The neighbor of one view replaces it in the contrast with the predictions of the other view. Each view is a separate
    forward pass. Only the first view enters the queue, after the update. Linear layers before a BatchNorm have no bias.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's two hidden layers.
        out_dim: Width of the projection and the prediction.
        predictor_dim: Width of the predictor's hidden layer.
        queue_size: Number of earlier projections, at most the number of images.
        temperature: Softmax temperature, > 0; 0.1 on ImageNet, 0.2 on CIFAR-10 (solo-learn).
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 256,
        predictor_dim: int = 4096,
        queue_size: int = 98304,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        dims = [feature_dim(backbone), hidden_dim, hidden_dim, out_dim]
        self.projector = mlp(dims, bias=False, last_bias=False, last_norm="affine")
        self.predictor = mlp([out_dim, predictor_dim, out_dim], bias=False)
        self.queue = FeatureQueue(queue_size, out_dim)
        self.loss = InfoNCELoss(temperature)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Identifies the prediction of the other view by the neighbor of each view, in both directions."""
        x_a, x_b = view_pair(views)
        features_a, features_b = self.backbone(x_a), self.backbone(x_b)
        z_a, z_b = self.projector(features_a), self.projector(features_b)
        neighbors_a, neighbors_b = self.queue.nearest(z_a), self.queue.nearest(z_b)
        self.queue.collect(z_a)
        loss_a = self.loss(neighbors_a, self.predictor(z_b))
        loss_b = self.loss(neighbors_b, self.predictor(z_a))
        return StepOutput((loss_a + loss_b) / 2, {}, z_a.detach(), z_b.detach(), features=features_a)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over the N predictions: ln N."""
        return math.log(num_images)
