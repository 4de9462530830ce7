"""Jigsaw puzzles: classifies by which permutation an image's tiles were shuffled."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import cross_entropy
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.puzzle import permutation_table, tiles


@METHODS.register("jigsaw")
class Jigsaw(Method):
    """Jigsaw puzzles (Noroozi and Favaro 2016, arXiv:1603.09246; vissl, transforms/img_pil_to_multicrop.py).

    The backbone sees each of the 3 x 3 tiles alone. A linear layer per tile, the same for all places, and an MLP on the
    concatenated outputs predict the permutation.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        num_permutations: Number of permutations, chosen to differ in many places; 1000 in the paper, 2000 in VISSL.
        tile_dim: Width of the linear layer per tile.
        hidden_dim: Width of the MLP's hidden layer.
    """

    family = "pretext"
    permutations: Tensor

    def __init__(
        self, backbone: nn.Module, *, num_permutations: int = 1000, tile_dim: int = 512, hidden_dim: int = 4096
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = nn.Sequential(nn.Linear(feature_dim(backbone), tile_dim), nn.ReLU())
        self.classifier = mlp([9 * tile_dim, hidden_dim, num_permutations])
        self.register_buffer("permutations", permutation_table(num_permutations))

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Cross-entropy over the permutations of the first view's tiles."""
        cut = tiles(views.large[0], views.random)  # (N, 9, C, s, s)
        drawn = (views.random.per_image() * len(self.permutations)).long().to(cut.device)
        shuffled = cut[torch.arange(len(cut), device=cut.device)[:, None], self.permutations[drawn]]
        features = self.backbone(shuffled.flatten(0, 1)).unflatten(0, (-1, 9))
        logits = self.classifier(self.projector(features).flatten(1))
        metrics = {"jigsaw_accuracy": (logits.argmax(1) == drawn).float().mean()}
        mean = features.mean(1)
        return StepOutput(cross_entropy(logits, drawn), metrics, mean.detach(), features=mean)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over the permutations: ln P."""
        return math.log(len(self.permutations))
