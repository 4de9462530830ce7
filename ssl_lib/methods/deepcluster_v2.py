"""DeepCluster v2: predicts clusters that k-means finds before every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.clustering import Clusters
from ssl_lib.heads import mlp
from ssl_lib.losses import DeepClusterV2Loss
from ssl_lib.memory import FeatureBank
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.utils.rows import unit_rows
from ssl_lib.views.inputs import image_indices, multi_crop


@METHODS.register("deepcluster_v2")
class DeepClusterV2(Method):
    """DeepCluster v2 (Caron et al. 2020, arXiv:2006.09882, appendix; facebookresearch/swav, main_deepclusterv2.py).

    Views of the same size share one forward pass. A bank per large view holds the images' last embeddings. Before every
    epoch, each head clusters one of the banks; the centroids are its fixed prototypes for the epoch.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        num_images: Number of training images; `build` takes it from the data.
        hidden_dim: Width of the projector's hidden layer.
        out_dim: Width of the embeddings.
        num_clusters: Number of clusters per head, at most the number of images.
        heads: Number of clusterings.
        iterations: Iterations of k-means.
        temperature: Softmax temperature, > 0.
    """

    family = "clustering"
    banks: Sequence[FeatureBank]
    clusters: Sequence[Clusters]

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_images: int,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        num_clusters: int = 3000,
        heads: int = 3,
        iterations: int = 10,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone, self.iterations = backbone, iterations
        self.projector = mlp([feature_dim(backbone), hidden_dim, out_dim])
        clusters = (Clusters(num_images, num_clusters, out_dim) for _ in range(heads))
        self.clusters = nn.ModuleList(clusters)  # type: ignore[assignment]
        self.banks = nn.ModuleList(FeatureBank(num_images, out_dim) for _ in range(2))  # type: ignore[assignment]
        self.loss = DeepClusterV2Loss(temperature)

    def before_epoch(self, progress: Progress, encode: Callable[[nn.Module], Tensor]) -> None:
        """Clusters the banks, which in the first epoch hold the embeddings of the images without augmentation."""
        views = [bank.rows for bank in self.banks]
        if progress.step == 0:
            views = [encode(nn.Sequential(self.backbone, self.projector))] * 2
            for bank, rows in zip(self.banks, views, strict=True):
                bank.fill(rows)
        for head, clusters in enumerate(self.clusters):
            clusters.fit(views[head % 2], progress.epoch, head, iterations=self.iterations)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Predicts the clusters of each image from all its views."""
        features = multi_crop(self.backbone, views)
        z = unit_rows(self.projector(features)).chunk(len(views.large + views.small))
        indices = image_indices(views)
        for bank, rows in zip(self.banks, z, strict=False):
            bank.collect(rows, indices)
        heads = [(head.centroids.T, head.assignments[indices]) for head in self.clusters]
        loss = torch.stack([self.loss(x @ centroids, targets) for centroids, targets in heads for x in z]).mean()
        return StepOutput(loss, {}, z[0].detach(), z[1].detach(), features=features[: len(z[0])])

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over K clusters: ln K."""
        return math.log(len(self.clusters[0].centroids))
