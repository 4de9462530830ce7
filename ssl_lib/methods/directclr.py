"""DirectCLR: contrastive learning of a part of the representation, without a projector."""

from __future__ import annotations

import math

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.losses import DirectCLRLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import view_pair


@METHODS.register("directclr")
class DirectCLR(Method):
    """DirectCLR (Jing et al. 2021, arXiv:2110.09348; facebookresearch/directclr, directclr/main.py).

    Each view is a separate forward pass. The reference also trains a classifier on the detached features, which the
    evaluation protocols replace here, and starts every residual branch at zero (`zero_init_residual`).

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        dim: Number of features that the loss compares, at most `out_dim`; 360 of 2048 for ResNet-50.
        temperature: Softmax temperature, > 0.
    """

    def __init__(self, backbone: nn.Module, *, dim: int = 360, temperature: float = 0.1) -> None:
        super().__init__()
        if dim > (width := feature_dim(backbone)):
            raise ValueError(f"dim must be at most the backbone's {width} features, got {dim}")
        self.backbone = backbone
        self.loss = DirectCLRLoss(dim, temperature)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Contrasts the first features of the two views."""
        x_a, x_b = view_pair(views)
        r_a, r_b = self.backbone(x_a), self.backbone(x_b)
        z_a, z_b = (r[:, : self.loss.dim].detach() for r in (r_a, r_b))
        return StepOutput(self.loss(r_a, r_b), {}, z_a, z_b, features=r_a)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over the N images of the other view: ln N."""
        return math.log(num_images)
