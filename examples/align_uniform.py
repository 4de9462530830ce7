"""A custom method in one file: alignment and uniformity on the hypersphere (Wang and Isola 2020).

Train it with `ssl-lib train examples/align_uniform.yaml`; `imports` in the config names this file.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ssl_lib import METHODS, Method, Progress, StepOutput, Views
from ssl_lib.heads import mlp


@METHODS.register("align_uniform")
class AlignUniform(Method):
    """Pulls the two views of an image together and spreads all images over the sphere."""

    def __init__(self, backbone: nn.Module, *, out_dim: int = 128, uniformity_weight: float = 1.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = mlp([backbone.out_dim, 256, out_dim])
        self.uniformity_weight = uniformity_weight

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Computes both terms from the unit-length embeddings of the two views."""
        z = F.normalize(self.projector(self.backbone(torch.cat(views.large))).float(), dim=1)  # (2N, D)
        z_a, z_b = z.chunk(2)
        alignment = (z_a - z_b).square().sum(1).mean()
        uniformity = sum(torch.pdist(side).square().mul(-2).exp().mean().log() for side in (z_a, z_b)) / 2
        metrics = {"alignment": alignment.detach(), "uniformity": uniformity.detach()}
        return StepOutput(alignment + self.uniformity_weight * uniformity, metrics, embeddings=z_a.detach())
