"""MoCo v2: momentum contrast against a queue of earlier keys."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.ema import EMATeacher
from ssl_lib.heads import mlp
from ssl_lib.losses import InfoNCELoss
from ssl_lib.memory import FeatureQueue
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("moco_v2")
class MoCoV2(Method):
    """MoCo v2 (Chen et al. 2020, arXiv:2003.04297; facebookresearch/moco, moco/builder.py and main_moco.py).

    The first view is the query, the second the key. BatchNorm is synchronized, which replaces the shuffling of keys
    among GPUs in the reference: no image can be recognized by the statistics of its part of the batch.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layer; None is a linear projector (MoCo v1).
        out_dim: Width of the embeddings.
        queue_size: Number of earlier keys, at most the number of images.
        temperature: Softmax temperature, > 0; 0.07 in MoCo v1.
        momentum: EMA momentum of the teacher, constant, in [0, 1].
    """

    loss: nn.Module

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int | None = 2048,
        out_dim: int = 128,
        queue_size: int = 65536,
        temperature: float = 0.2,
        momentum: float = 0.999,
    ) -> None:
        super().__init__()
        self.backbone, self.momentum, self.final_momentum = backbone, momentum, momentum
        hidden = [] if hidden_dim is None else [hidden_dim]
        self.projector = mlp([feature_dim(backbone), *hidden, out_dim], norm=False)
        self.teacher = EMATeacher(self.backbone, self.projector)
        self.queue = FeatureQueue(queue_size, out_dim)
        self.loss = InfoNCELoss(temperature)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Contrasts each query with its image's key and the queue; the keys enter the queue after the update."""
        features, query, key = self.embed(views)
        loss = self.loss(query, key, self.queue.rows)
        return StepOutput(loss, {}, query.detach(), key, features=features)

    def embed(self, views: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Returns features and query of the first view, and the key of the second, which is collected for the queue."""
        x_query, x_key = view_pair(views)
        features = self.backbone(x_query)
        query, key = self.projector(features), self.teacher(x_key)
        self.queue.collect(key)
        return features, query, key

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over the key and the queue: ln(K + 1)."""
        return math.log(len(self.queue.rows) + 1)

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Applies weight decay to all parameters, biases and norm layers included."""
        return [group | {"weight_decay": weight_decay} for group in super().param_groups(weight_decay)]

    def ema_pairs(self) -> list[tuple[EMATeacher, tuple[nn.Module, ...]]]:
        """The teacher averages the backbone and projector."""
        return [(self.teacher, (self.backbone, self.projector))]
