"""SupCon: supervised contrastive learning."""

from __future__ import annotations

import torch
from torch import nn

from ssl_lib.losses import SupConLoss
from ssl_lib.methods.simclr import SimCLR
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import image_labels, view_pair


@METHODS.register("supcon")
class SupCon(SimCLR):
    """SupCon (Khosla et al. 2020, arXiv:2004.11362; HobbitLong/SupContrast, main_supcon.py, networks/resnet_big.py).

    SimCLR whose positives are all views of the images with the same label. The loss has no factor
    `temperature / 0.07`, as in the paper; the code has it.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layers; the reference uses the feature width (2048 for ResNet-50).
        out_dim: Width of the embedding.
        projector_layers: Number of Linear layers in the projector.
        projector_norm: Whether BatchNorm follows each of these layers; the reference's layers have biases instead.
        temperature: Softmax temperature, > 0; 0.1 in the paper and the code's commands.
    """

    supervised = True

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        projector_layers: int = 2,
        projector_norm: bool = False,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(
            backbone,
            hidden_dim=hidden_dim,
            out_dim=out_dim,
            projector_layers=projector_layers,
            projector_norm=projector_norm,
        )
        self.loss = SupConLoss(temperature)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Contrasts the two views of each image with all other views of the batch."""
        features = self.backbone(torch.cat(view_pair(views)))  # (2N, F)
        z = torch.stack(self.projector(features).chunk(2), 1)  # (N, 2, D)
        loss = self.loss(z, image_labels(views))
        z_a, z_b = z.detach().unbind(1)
        return StepOutput(loss, {}, z_a, z_b, features=features.chunk(2)[0])
