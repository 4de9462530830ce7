"""DCL: SimCLR with the decoupled contrastive loss."""

from __future__ import annotations

import math

from torch import nn

from ssl_lib.losses import DCLLoss
from ssl_lib.methods.simclr import SimCLR
from ssl_lib.registry import METHODS


@METHODS.register("dcl")
class DCL(SimCLR):
    """DCL (Yeh et al. 2021, arXiv:2110.06848; raminnakhli/Decoupled-Contrastive-Learning, loss/dcl.py).

    With `sigma` it is DCLW. The loss is the mean of both directions; that code, which is not by the authors, sums them.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layers.
        out_dim: Width of the embedding.
        projector_layers: Number of Linear layers in the projector.
        projector_norm: Whether BatchNorm follows each of these layers; otherwise they have biases.
        temperature: Softmax temperature, > 0.
        sigma: Temperature of DCLW's weights of the positives, > 0; 0.5 in the paper. None is DCL, without weights.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        projector_layers: int = 2,
        projector_norm: bool = True,
        temperature: float = 0.1,
        sigma: float | None = None,
    ) -> None:
        super().__init__(
            backbone,
            hidden_dim=hidden_dim,
            out_dim=out_dim,
            projector_layers=projector_layers,
            projector_norm=projector_norm,
        )
        self.loss = DCLLoss(temperature, sigma)

    def chance_loss(self, num_images: int) -> float:
        """Equal similarities to the positive and the 2N - 2 negatives: ln(2N - 2)."""
        return math.log(2 * num_images - 2)
