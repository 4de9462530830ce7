"""DeepCluster: classifies images by clusters of the network's own features, found before every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.clustering import check_clusters, cluster_labels
from ssl_lib.distributed import set_unsharded
from ssl_lib.losses import cross_entropy
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.utils.seeding import seeded_generator
from ssl_lib.views.inputs import image_indices, multi_crop


@METHODS.register("deepcluster")
class DeepCluster(Method):
    """DeepCluster (Caron et al. 2018, arXiv:1807.05520; facebookresearch/deepcluster, main.py and clustering.py).

    Before every epoch, k-means clusters the features of the images without augmentation, whitened and scaled to unit
    length, and the classifier starts again. The reference samples the clusters uniformly; here the loss weights each
    image by the inverse size of its cluster, which the paper calls equivalent. Further differences:
    k-means starts from k-means++, the images are not Sobel-filtered, the features are the backbone's, and the
    classifier belongs to the optimizer, whose moments are kept.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        num_images: Number of training images; `build` takes it from the data.
        num_clusters: Number of clusters, at most the number of images.
        pca_dim: Number of principal components to whiten.
        iterations: Maximum number of iterations of k-means.
    """

    family = "clustering"
    labels: Tensor
    weights: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_images: int,
        num_clusters: int = 10000,
        pca_dim: int = 256,
        iterations: int = 20,
    ) -> None:
        super().__init__()
        check_clusters(num_clusters, num_images)
        self.backbone, self.pca_dim, self.iterations = backbone, pca_dim, iterations
        self.classifier = nn.Linear(feature_dim(backbone), num_clusters)
        self.register_buffer("labels", torch.full((num_images,), -100))
        self.register_buffer("weights", torch.ones(num_clusters))  # of the clusters, in the loss

    def before_epoch(self, progress: Progress, encode: Callable[[nn.Module], Tensor]) -> None:
        """Clusters the features of all images, weights the clusters and resets the classifier."""
        self.label(encode(self.backbone), progress.epoch, self.pca_dim)
        counts = self.labels[self.labels >= 0].bincount(minlength=len(self.weights))
        shares = counts.sum() / (counts.count_nonzero() * counts).to(self.weights)
        self.weights.copy_(torch.where(counts > 0, shares, 0))
        weight, generator = torch.empty(self.classifier.weight.shape), seeded_generator("clusters", progress.epoch)
        set_unsharded(self.classifier.weight, weight.normal_(0, 0.01, generator=generator))
        set_unsharded(self.classifier.bias, torch.zeros(len(weight)))

    def label(self, features: Tensor, seed: int, pca_dim: int | None = None) -> None:
        """Replaces the labels by clusters of the features (M, F) of all images."""
        clusters, device, rounds = len(self.weights), self.labels.device, self.iterations
        labels = cluster_labels(features, clusters, seed, iterations=rounds, pca_dim=pca_dim, device=device)
        self.labels[: len(labels)] = labels.to(device)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Classifies all views of each image by its cluster."""
        features = multi_crop(self.backbone, views)
        logits, count = self.classifier(features), len(views.large + views.small)
        loss = cross_entropy(logits, self.labels[image_indices(views)].repeat(count), self.weights)
        first, *others = features.chunk(count)
        probabilities = logits[: len(first)].detach().softmax(1)
        second = others[0].detach() if len(views.large) > 1 else None
        return StepOutput(loss, {}, first.detach(), second, probabilities, features=first)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over K clusters: ln K."""
        return math.log(len(self.weights))
