"""Contrastive Clustering: contrasts images by their embeddings and clusters by their probabilities."""

from __future__ import annotations

import math

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import ClusterContrastLoss, NTXentLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("contrastive_clustering")
class ContrastiveClustering(Method):
    """Contrastive Clustering (Li et al. 2021, arXiv:2009.09687; Yunfan-Li/Contrastive-Clustering, modules/network.py).

    NT-Xent of the rows of the embeddings, plus NT-Xent of the columns of the cluster probabilities. The views go
    through the backbone one by one. The cluster of an image is the largest of its probabilities.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        num_clusters: Number of clusters; the number of classes in the paper.
        hidden_dim: Width of the hidden layer of both heads; None is the feature width, as in the reference.
        out_dim: Width of the embeddings.
        temperature: Softmax temperature of the images, > 0.
        cluster_temperature: Softmax temperature of the clusters, > 0.
    """

    family = "clustering"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_clusters: int = 10,
        hidden_dim: int | None = None,
        out_dim: int = 128,
        temperature: float = 0.5,
        cluster_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if num_clusters < 2:
            raise ValueError(f"num_clusters must be at least 2, got {num_clusters}")
        self.backbone, self.num_clusters, width = backbone, num_clusters, feature_dim(backbone)
        self.projector = mlp([width, hidden_dim or width, out_dim], norm=False)
        self.clusterer = mlp([width, hidden_dim or width, num_clusters], norm=False)
        self.loss, self.cluster_loss = NTXentLoss(temperature), ClusterContrastLoss(cluster_temperature)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Contrasts the two views of each image, and the two views of each cluster."""
        h_a, h_b = (self.backbone(x) for x in view_pair(views))
        z_a, z_b = self.projector(h_a), self.projector(h_b)
        p_a, p_b = (self.clusterer(h).softmax(1) for h in (h_a, h_b))
        images, clusters = self.loss(z_a, z_b), self.cluster_loss(p_a, p_b)
        metrics = {"cluster_loss": clusters.detach()}
        return StepOutput(images + clusters, metrics, z_a.detach(), z_b.detach(), p_a.detach(), features=h_a)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distributions over 2N - 1 views and 2K - 1 columns."""
        return math.log(2 * num_images - 1) + math.log(2 * self.num_clusters - 1)
