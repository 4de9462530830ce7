"""SimCLR: a simple framework for contrastive learning of visual representations."""

from __future__ import annotations

import math

import torch
from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import NTXentLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("simclr")
class SimCLR(Method):
    """SimCLR (Chen et al. 2020, arXiv:2002.05709 and v2, arXiv:2006.10029; google-research/simclr, tf2/model.py).

    Both views share one forward pass, so BatchNorm uses their joint statistics.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layers; the reference uses the feature width (2048 for ResNet-50).
        out_dim: Width of the embedding.
        projector_layers: Number of Linear layers in the projector: 3 in SimCLR v2, 2 in the first paper.
        projector_norm: Whether BatchNorm follows each of these layers; solo-learn's layers have biases instead.
        temperature: Softmax temperature, > 0; 0.1 on ImageNet, 0.5 on CIFAR-10.
        chunk_size: Number of anchors per block of the similarity matrix, to save memory; None computes the full matrix.
    """

    loss: nn.Module

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        projector_layers: int = 3,
        projector_norm: bool = True,
        temperature: float = 0.1,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        if projector_layers < 1:
            raise ValueError(f"projector_layers must be at least 1, got {projector_layers}")
        self.backbone = backbone
        widths = [feature_dim(backbone), *[hidden_dim] * (projector_layers - 1), out_dim]
        if projector_norm:
            self.projector = mlp(widths, bias=False, last_bias=False, last_norm="scale", init_std=0.01)
        else:
            self.projector = mlp(widths, norm=False)
        self.loss = NTXentLoss(temperature, chunk_size)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Contrasts the two views of each image with all other views of the batch."""
        features = self.backbone(torch.cat(view_pair(views)))  # (2N, F)
        z_a, z_b = self.projector(features).chunk(2)
        loss = self.loss(z_a, z_b)
        return StepOutput(loss, {}, z_a.detach(), z_b.detach(), features=features.chunk(2)[0])

    def chance_loss(self, num_images: int) -> float | None:
        """Uniform distribution over the 2N - 1 other views: ln(2N - 1)."""
        return math.log(2 * num_images - 1)
