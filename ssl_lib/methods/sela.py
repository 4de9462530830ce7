"""SeLa: classifies images by labels that optimal transport finds for all images, with clusters of the same size."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.clustering import check_clusters, transport_plan
from ssl_lib.distributed import unsharded
from ssl_lib.losses import cross_entropy
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import image_indices, multi_crop


@METHODS.register("sela")
class SeLa(Method):
    """SeLa (Asano et al. 2020, arXiv:1911.05371; yukimasano/self-label, main.py and sinkhornknopp.py).

    Labels change only between epochs: before the first one, and before each epoch that contains one of the times at
    which the reference changes them. They follow from images without augmentation and the network in eval mode; the
    reference takes augmented images and batch statistics. A plan needs 8 bytes per image and cluster.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        num_images: Number of training images; `build` takes it from the data.
        num_clusters: Number of clusters per head, at most the number of images.
        heads: Number of classifiers, each with labels of its own.
        sharpness: Factor of the log-probabilities relative to the entropy of the labels, > 0; 10 for CIFAR.
        reassignments: Number of times at which the labels change, at least 1. The time between them grows linearly.
    """

    family = "clustering"
    labels: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_images: int,
        num_clusters: int = 3000,
        heads: int = 10,
        sharpness: float = 25.0,
        reassignments: int = 100,
    ) -> None:
        super().__init__()
        check_clusters(num_clusters, num_images)
        if sharpness <= 0 or min(heads, reassignments) < 1:
            given = f"{sharpness}, {heads} and {reassignments}"
            raise ValueError(f"sharpness must be positive, heads and reassignments at least 1, got {given}")
        self.backbone, self.num_clusters = backbone, num_clusters
        self.sharpness, self.reassignments = sharpness, reassignments
        self.classifier = nn.Linear(feature_dim(backbone), heads * num_clusters)
        random = [torch.randperm(num_images) % num_clusters for _ in range(heads)]
        self.register_buffer("labels", torch.stack(random))  # (heads, images)

    def before_epoch(self, progress: Progress, encode: Callable[[nn.Module], Tensor]) -> None:
        """Finds new labels for all images, with the same number of images in every cluster, if it is time."""
        steps = progress.schedule_steps or progress.total_steps
        ends = (progress.step / steps, (progress.step + progress.steps_per_epoch) / steps)
        first, last = (math.ceil(self.reassignments * math.sqrt(end)) for end in ends)
        if first == last:
            return
        features = encode(self.backbone).to(self.labels.device)
        features = features[places := features.any(1).nonzero()[:, 0]]  # images that are left out have zeros
        weights, biases = (unsharded(x).to(features).split(self.num_clusters) for x in self.classifier.parameters())
        for labels, weight, bias in zip(self.labels, weights, biases, strict=True):
            labels[places] = transport_plan(torch.addmm(bias, features, weight.T), self.sharpness).argmax(1)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Classifies all views of each image by its label of each head."""
        features = multi_crop(self.backbone, views)
        logits, count = self.classifier(features), len(views.large + views.small)
        targets = self.labels[:, image_indices(views)].T.repeat(count, 1)  # (views * N, heads)
        loss = cross_entropy(logits.view(-1, self.num_clusters), targets.flatten())
        first, *others = features.chunk(count)
        probabilities = logits[: len(first), : self.num_clusters].detach().softmax(1)
        second = others[0].detach() if len(views.large) > 1 else None
        return StepOutput(loss, {}, first.detach(), second, probabilities, features=first)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over K clusters: ln K."""
        return math.log(self.num_clusters)
