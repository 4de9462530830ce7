"""Relative location: classifies in which direction one patch of an image is from another."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import cross_entropy
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import BatchRandom, Progress, StepOutput, Views
from ssl_lib.views.puzzle import tiles

_PATCH = 96 / 144  # of a cell: patches of 96 pixels, 48 pixels apart
_JITTER = 14 / 48  # of the gap: 7 pixels in each direction


@METHODS.register("relative_location")
class RelativeLocation(Method):
    """Relative location (Doersch et al. 2015, arXiv:1505.05192; cdoersch/deepcontext, train.py).

    The backbone sees the patches of a 3 x 3 grid one by one. An MLP predicts from the features of the center and of one
    neighbor which of the eight neighbors it is. Gaps, jitter, patches of zero mean and unit standard deviation, and one
    color channel per patch keep it from matching lines, gradients and chromatic aberration. In contrast to the
    reference, all pairs contain the center, so that every direction is equally frequent; the two dropped channels are
    zero instead of noise of 1 % of the kept one; and no patches are downsampled. The head has one hidden layer, as in
    mmselfsup (RelativeLocNeck).

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the MLP's hidden layer.
        drop_colors: Whether to keep a random channel of each patch; images without three channels keep all.
    """

    family = "pretext"

    def __init__(self, backbone: nn.Module, *, hidden_dim: int = 4096, drop_colors: bool = True) -> None:
        super().__init__()
        self.backbone, self.drop_colors = backbone, drop_colors
        self.classifier = mlp([2 * feature_dim(backbone), hidden_dim, 8])

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Cross-entropy over the eight neighbors of the center of the first view's grid."""
        patches = tiles(views.large[0], views.random, size=_PATCH, jitter=_JITTER)  # (N, 9, C, s, s)
        if self.drop_colors and patches.shape[2] == 3:
            patches = _one_channel(patches, views.random)
        features = self.backbone(patches.flatten(0, 1)).unflatten(0, (-1, 9))  # (N, 9, D)
        center, neighbors = features[:, 4:5], torch.cat([features[:, :4], features[:, 5:]], 1)
        pairs = torch.cat([center.expand_as(neighbors), neighbors], 2)  # (N, 8, 2D)
        logits = self.classifier(pairs.flatten(0, 1))
        directions = torch.arange(8, device=logits.device).repeat(len(pairs))
        metrics = {"location_accuracy": (logits.argmax(1) == directions).float().mean()}
        mean = features.mean(1)
        return StepOutput(cross_entropy(logits, directions), metrics, mean.detach(), features=mean)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over the neighbors: ln 8."""
        return math.log(8)


def _one_channel(patches: Tensor, random: BatchRandom) -> Tensor:
    """Keeps a random channel of each patch (N, T, 3, s, s), scaled to the same mean square over all channels."""
    kept = (random.per_image(patches.shape[1]) * 3).long().to(patches.device)
    return patches * (F.one_hot(kept, 3) * 3**0.5).to(patches)[..., None, None]
