"""Colorization: predicts the colors of an image from its lightness."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_lib.backbones.base import feature_dim, image_channels
from ssl_lib.losses import ColorizationLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.lab import ColorClasses


@METHODS.register("colorization")
class Colorization(Method):
    """Colorization (Zhang et al. 2016, arXiv:1603.08511; richzhang/colorization, resources/caffe_traininglayers.py).

    The backbone sees the lightness of the first view in all its channels, normalized like an image, so that a gray
    photograph is the same input in training and evaluation. The colors are classes: bins of a and b, of which those
    that no sRGB color reaches are left out (261 instead of 313). Rare colors weigh more; their frequencies are counted
    once, before the first epoch. The targets are made from the view itself with the data's mean and std undone, so the
    task needs no second copy of the pixels, and crops and flips apply to both. In contrast to the reference, whose
    network keeps feature maps of an eighth of the image, the classes are predicted from the pooled features of any
    backbone: a linear layer spreads them over a grid.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        image_mean: Mean with which the images are normalized; `build` takes it from the data.
        image_std: Standard deviation with which the images are normalized; `build` takes it from the data.
        grid: Number of points per row and column at which colors are predicted; 56 in the reference.
        hidden_dim: Width of the features at each point.
        uniform: Weight of the uniform distribution in the class weights, in [0, 1]; lambda in the paper.
    """

    family = "pretext"
    colors = True

    def __init__(
        self,
        backbone: nn.Module,
        *,
        image_mean: tuple[float, ...],
        image_std: tuple[float, ...],
        grid: int = 8,
        hidden_dim: int = 128,
        uniform: float = 0.5,
    ) -> None:
        super().__init__()
        self.backbone, self.channels = backbone, image_channels(backbone)
        self.classes = ColorClasses(image_mean, image_std, grid)
        self.decoder = nn.Sequential(
            nn.Linear(feature_dim(backbone), hidden_dim * grid**2),
            nn.Unflatten(1, (hidden_dim, grid, grid)),
            nn.BatchNorm2d(hidden_dim),
            nn.ReLU(),
            nn.Conv2d(hidden_dim, len(self.classes.bins), 1),
        )
        self.loss = ColorizationLoss(len(self.classes.bins), uniform)

    def before_epoch(self, progress: Progress, encode: Callable[[nn.Module], Tensor]) -> None:
        """Counts the colors of all images before the first epoch."""
        if progress.step == 0:
            self.loss.rebalance(encode(self.classes).sum(0)[:-1])

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Cross-entropy over the colors at the points of the first view's grid; images without colors count as 0."""
        with torch.no_grad():
            lab = self.classes.lab(views.large[0])
            targets, colored = self.classes.classes(lab)  # (N, P, K), (N,)
            lightness = self.classes.lightness(lab, self.channels)
        features = self.backbone(lightness)
        logits = self.decoder(features).flatten(2).mT  # (N, P, K)
        mask = colored[:, None].expand(logits.shape[:2]).flatten()
        loss = self.loss(logits.flatten(0, 1), targets.flatten(0, 1), mask)
        correct = (logits.argmax(2) == targets.argmax(2)).float().mean()
        return StepOutput(loss, {"color_accuracy": correct}, features.detach(), features=features)
