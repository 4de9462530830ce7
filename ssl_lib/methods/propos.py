"""ProPos: BYOL with noise around the embeddings and clusters whose mean embeddings are spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn, special

from ssl_lib.backbones.base import feature_dim
from ssl_lib.clustering import Clusters
from ssl_lib.ema import EMATeacher
from ssl_lib.heads import mlp
from ssl_lib.losses import NegativeCosineLoss, ProPosLoss
from ssl_lib.methods.base import Method
from ssl_lib.optim.param_groups import param_groups
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import image_indices, view_pair


@METHODS.register("propos")
class ProPos(Method):
    """ProPos (Huang et al. 2022, arXiv:2111.11821; Hzzone/ProPos, models/propos/byol.py and byol_wrapper.py).

    The predictor maps an embedding with noise, a neighbor of the image, to the teacher's embedding of the other view
    (positive sampling alignment, -2 cos), and the means of the clusters are spread (`ProPosLoss`); both are averages
    over the two directions. Before every epoch, the teacher's embeddings of the images without augmentation are
    clustered. Weight decay applies to all parameters. In contrast to the reference, BatchNorm is synchronized, which
    replaces the shuffling of keys; k-means starts from random images, not from k-means++; there is no queue.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        num_images: Number of training images; `build` takes it from the data.
        num_clusters: Number of clusters, at most the number of images; in the paper that of the classes.
        hidden_dim: Hidden width of the projector and the predictor.
        out_dim: Width of the projection and the prediction.
        temperature: Softmax temperature, > 0.
        weight: Weight of `ProPosLoss`, >= 0; 0.001 on ImageNet.
        noise: Standard deviation of the noise, >= 0.
        warmup_epochs: Number of initial epochs without noise and `ProPosLoss`.
        momentum: EMA momentum of the teacher, constant, in [0, 1].
        predictor_lr: Factor of the predictor's learning rate, > 0.
    """

    family = "clustering"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_images: int,
        num_clusters: int = 10,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        temperature: float = 0.5,
        weight: float = 0.1,
        noise: float = 0.001,
        warmup_epochs: int = 50,
        momentum: float = 0.996,
        predictor_lr: float = 10.0,
    ) -> None:
        super().__init__()
        self.backbone, self.momentum, self.final_momentum = backbone, momentum, momentum
        self.weight, self.noise, self.warmup_epochs, self.predictor_lr = weight, noise, warmup_epochs, predictor_lr
        self.projector = mlp([feature_dim(backbone), hidden_dim, out_dim])
        self.predictor = mlp([out_dim, hidden_dim, out_dim], init_std=0.01)
        self.teacher, self.clusters = EMATeacher(backbone, self.projector), Clusters(num_images, num_clusters, out_dim)
        self.loss, self.scattering = NegativeCosineLoss(), ProPosLoss(num_clusters, temperature)

    def before_epoch(self, progress: Progress, encode: Callable[[nn.Module], Tensor]) -> None:
        """Clusters the teacher's embeddings of all images."""
        if progress.epoch >= self.warmup_epochs:
            self.clusters.fit(encode(self.teacher), progress.epoch, iterations=50)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Predicts the teacher's embedding of each view from the other view, and spreads the clusters, once found."""
        x_a, x_b = view_pair(views)
        features = self.backbone(x_a)
        z_a, z_b = self.projector(features), self.projector(self.backbone(x_b))
        k_a, k_b = self.teacher(x_a), self.teacher(x_b)
        noise = special.ndtri(views.random.per_image(2, z_a.shape[1]).clamp(1e-6, 1 - 1e-6))  # normal (N, 2, D)
        e_a, e_b = (self.noise * (progress.epoch >= self.warmup_epochs) * noise).to(z_a).unbind(1)
        alignment = self.loss(self.predictor(z_a + e_a), k_b) + self.loss(self.predictor(z_b + e_b), k_a)
        labels = self.clusters.assignments[image_indices(views)]
        spread = (self.scattering(z_a, k_b, labels) + self.scattering(z_b, k_a, labels)) / 2
        loss, metrics = alignment + self.weight * spread, {"scattering_loss": spread.detach()}
        return StepOutput(loss, metrics, z_a.detach(), z_b.detach(), features=features)

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Applies weight decay to all parameters and scales the predictor's learning rate."""
        parts = ((nn.ModuleList([self.backbone, self.projector]), 1.0), (self.predictor, self.predictor_lr))
        groups = ((group, scale) for part, scale in parts for group in param_groups(part, weight_decay))
        return [group | {"weight_decay": weight_decay, "lr_scale": scale} for group, scale in groups]

    def ema_pairs(self) -> list[tuple[EMATeacher, tuple[nn.Module, ...]]]:
        """The teacher averages the backbone and projector; it has no predictor."""
        return [(self.teacher, (self.backbone, self.projector))]
