"""SwAV: swapped prediction of online cluster assignments between views."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.distributed import share
from ssl_lib.heads import UnitPrototypes, mlp
from ssl_lib.losses import SwAVLoss
from ssl_lib.memory import FeatureQueue
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.utils.rows import unit_rows
from ssl_lib.views.inputs import multi_crop


@METHODS.register("swav")
class SwAV(Method):
    """SwAV (Caron et al. 2020, arXiv:2006.09882; facebookresearch/swav, main_swav.py and src/resnet50.py).

    Views of the same size share one forward pass. After every update, the prototypes are scaled to unit length.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layer.
        out_dim: Width of the embeddings.
        num_prototypes: Number of prototypes.
        temperature: Softmax temperature, > 0.
        epsilon: Temperature of the assignments, > 0; 0.03 for small batches.
        freeze_prototypes: Number of initial epochs in which the prototypes are frozen.
        queue_size: Number of earlier embeddings per large view that take part in the assignments, at most the number
            of images; 0 for none. 3840 for a batch size of 256.
        queue_epoch: First epoch in which embeddings enter the queues; they are used when they are full.
    """

    family = "clustering"
    queues: Sequence[FeatureQueue]

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        num_prototypes: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        freeze_prototypes: int = 1,
        queue_size: int = 0,
        queue_epoch: int = 15,
    ) -> None:
        super().__init__()
        self.backbone, self.freeze_prototypes, self.queue_epoch = backbone, freeze_prototypes, queue_epoch
        self.projector = mlp([feature_dim(backbone), hidden_dim, out_dim])
        self.prototypes = UnitPrototypes(out_dim, num_prototypes)
        queues = [FeatureQueue(queue_size, out_dim) for _ in range(2 if queue_size else 0)]
        self.queues = nn.ModuleList(queues)  # type: ignore[assignment]
        self.loss = SwAVLoss(temperature, epsilon)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Predicts the assignment of each large view from all other views."""
        features = multi_crop(self.backbone, views)
        z = unit_rows(self.projector(features)).chunk(len(views.large + views.small))
        scores = [self.prototypes(x) for x in z]
        with torch.no_grad():
            queued = [self.prototypes(share(queue.rows)) for queue in self.queues if queue.full]
        for queue, rows in zip(self.queues, z, strict=False):
            if progress.epoch >= self.queue_epoch:
                queue.collect(rows)
        probabilities = (scores[0].detach() / self.loss.temperature).softmax(1)
        first, loss = features[: len(z[0])], self.loss(scores, queued or None)
        return StepOutput(loss, {}, z[0].detach(), z[1].detach(), probabilities, features=first)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over K prototypes: ln K."""
        return math.log(self.prototypes.out_features)

    def before_update(self, progress: Progress) -> None:
        """Freezes the prototypes in the first epochs by removing their gradients."""
        if progress.epoch < self.freeze_prototypes:
            self.prototypes.zero_grad(set_to_none=True)

    def after_update(self, progress: Progress) -> None:
        """Scales the prototypes to unit length."""
        self.prototypes.normalize()
