"""LeJEPA: agreement of views, with embeddings that follow the standard normal distribution (SIGReg)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import SIGRegLoss, random_directions
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views


@METHODS.register("lejepa")
class LeJEPA(Method):
    """LeJEPA (Balestriero and LeCun 2025, arXiv:2511.08544, algorithm 2; rbalestr-lab/lejepa, MINIMAL.md, README.md).

    Views of one size share a forward pass. All views move toward the mean of the large ones. Every update has new
    directions, the same in all processes.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's two hidden layers.
        out_dim: Width of the embeddings.
        num_slices: Number of random directions; 256 in MINIMAL.md.
        weight: Weight of the regularization, in [0, 1]; the agreement has the rest. 0.02 in MINIMAL.md, 0.05 in the
            paper.
        activation: Activation of the projector.
    """

    regularization: nn.Module

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        num_slices: int = 1024,
        weight: float = 0.02,
        activation: Literal["relu", "gelu"] = "relu",
    ) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must be in [0, 1], got {weight}")
        self.backbone, self.weight, self.directions = backbone, weight, (2, out_dim, num_slices)
        self.projector = mlp([feature_dim(backbone), hidden_dim, hidden_dim, out_dim], activation=activation)
        self.regularization = SIGRegLoss(num_slices)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Moves all views of an image to the mean of the large ones, and the embeddings to the normal distribution."""
        features = [self.backbone(torch.cat(group)) for group in (views.large, views.small) if group]
        count = len(views.large[0])
        z = torch.cat([self.projector(x) for x in features]).unflatten(0, (-1, count))  # (V, N, D)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        agreement = (z - z[: len(views.large)].mean(0)).square().mean()
        regularization = self.regularization(z, random_directions(views.random.shared(*self.directions)))
        loss = (1 - self.weight) * agreement + self.weight * regularization
        metrics = {"agreement": agreement.detach(), "regularization": regularization.detach()}
        return StepOutput(loss, metrics, z[0].detach(), z[1].detach(), features=features[0][:count])
