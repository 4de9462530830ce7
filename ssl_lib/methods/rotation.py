"""Rotation prediction (RotNet): classifies by how much an image was rotated."""

from __future__ import annotations

import math

import torch
from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.losses import cross_entropy
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views


@METHODS.register("rotation")
class Rotation(Method):
    """Rotation prediction (Gidaris et al. 2018, arXiv:1803.07728; gidariss/FeatureLearningRotNet).

    Every image is in the batch four times, rotated by 0, 90, 180 and 270 degrees.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
    """

    family = "pretext"

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(feature_dim(backbone), 4)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Cross-entropy over the four rotations of the first view."""
        upright = views.large[0]
        features = self.backbone(torch.cat([upright.rot90(turns, (2, 3)) for turns in range(4)]))
        logits = self.classifier(features)
        turned = torch.arange(4, device=logits.device).repeat_interleave(len(upright))
        metrics = {"rotation_accuracy": (logits.argmax(1) == turned).float().mean()}
        first = features[: len(upright)]
        return StepOutput(cross_entropy(logits, turned), metrics, first.detach(), features=first)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over the rotations: ln 4."""
        return math.log(4)
