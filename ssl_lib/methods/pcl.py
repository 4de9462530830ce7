"""PCL: MoCo v2 that also identifies the prototypes of an image's clusters, at several granularities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, cat, full, nn

from ssl_lib.clustering import Clusters
from ssl_lib.losses import ProtoNCELoss, concentration
from ssl_lib.losses.proto_nce import other_prototypes
from ssl_lib.methods.moco_v2 import MoCoV2
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.utils.rows import unit_rows
from ssl_lib.views.inputs import image_indices


@METHODS.register("pcl")
class PCL(MoCoV2):
    """PCL v2 (Li et al. 2020, arXiv:2005.04966; salesforce/PCL, pcl/builder.py and main_pcl.py).

    Before every epoch, the teacher's embeddings of the images without augmentation are clustered, once per granularity.
    The loss is that of `MoCoV2` plus the mean over the clusterings of `ProtoNCELoss`. In contrast to the reference,
    k-means is spherical and starts once from random images, and all processes have the same negative prototypes.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        num_images: Number of training images; `build` takes it from the data.
        granularities: Number of clusters of each clustering, at most the number of images.
        num_negatives: Number of negative prototypes; all prototypes of a clustering that has no more.
        warmup_epochs: Number of initial epochs without prototypes.
        out_dim: Width of the embeddings.
        queue_size: Number of earlier keys, at most the number of images.
        temperature: Softmax temperature and mean temperature of the prototypes, > 0.
        hidden_dim: Width of the projector's hidden layer; in the reference the width of the features. None is a linear
            projector.
        momentum: EMA momentum of the teacher, constant, in [0, 1].
        **kwargs: The last two, passed to `MoCoV2`.
    """

    family = "clustering"
    clusters: Sequence[Clusters]
    temperatures: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_images: int,
        granularities: Sequence[int] = (25000, 50000, 100000),
        num_negatives: int = 16384,
        warmup_epochs: int = 20,
        out_dim: int = 128,
        queue_size: int = 16384,
        temperature: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, out_dim=out_dim, queue_size=queue_size, temperature=temperature, **kwargs)
        self.num_negatives, self.temperature = num_negatives, temperature
        self.warmup_epochs, self.prototype_loss = warmup_epochs, ProtoNCELoss()
        clusters = (Clusters(num_images, count, out_dim) for count in granularities)
        self.clusters = nn.ModuleList(clusters)  # type: ignore[assignment]
        self.register_buffer("temperatures", full((sum(granularities),), temperature))

    def before_epoch(self, progress: Progress, encode: Callable[[nn.Module], Tensor]) -> None:
        """Clusters the teacher's embeddings of all images, and estimates the concentration of each cluster."""
        if progress.epoch < self.warmup_epochs:
            return
        rows = unit_rows(encode(self.teacher).to(self.temperatures))
        for head, clusters in enumerate(self.clusters):
            clusters.fit(rows, progress.epoch, head, iterations=20)
        found = [concentration(rows, x.centroids, x.assignments[: len(rows)], self.temperature) for x in self.clusters]
        self.temperatures.copy_(cat(found))

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Contrasts each query with its image's key and, after the warmup, with the prototypes of its clusters."""
        features, query, key = self.embed(views)
        loss = self.loss(query, key, self.queue.rows)
        if progress.epoch < self.warmup_epochs:
            return StepOutput(loss, {}, query.detach(), key, features=features)
        prototypes, indices = [x.centroids for x in self.clusters], image_indices(views)
        assigned = [x.assignments[indices] for x in self.clusters]
        negatives = other_prototypes([views.random.shared(len(x)) for x in prototypes], assigned, self.num_negatives)
        temperatures = self.temperatures.split([len(x) for x in prototypes])
        extra = self.prototype_loss(query, prototypes, assigned, temperatures, negatives)
        metrics = {"prototype_loss": extra.detach()}
        return StepOutput(loss + extra, metrics, query.detach(), key, features=features)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distributions over the key and the queue, and over the prototypes of the batch and the negatives."""
        counts = [num_images + min(self.num_negatives, len(x.centroids)) for x in self.clusters]
        return super().chance_loss(num_images) + math.log(math.prod(counts)) / len(counts)
