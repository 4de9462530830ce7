"""RPC: SimCLR with relative predictive coding."""

from __future__ import annotations

from torch import nn

from ssl_lib.losses import RPCLoss
from ssl_lib.methods.simclr import SimCLR
from ssl_lib.registry import METHODS


@METHODS.register("rpc")
class RPC(SimCLR):
    """RPC (Tsai et al. 2021, arXiv:2103.11275; martinmamql/relative_predictive_coding, vision/objective.py).

    The defaults are those of the reference for ImageNet (vision/tpu_pretrain_finetune_resnet50.sh); for CIFAR-10 it has
    a temperature of 128, alpha 0, beta 0.001 and gamma 1.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layers; the reference uses the feature width (2048 for ResNet-50).
        out_dim: Width of the embedding.
        projector_layers: Number of Linear layers in the projector.
        projector_norm: Whether BatchNorm follows each of these layers; otherwise they have biases.
        temperature: Divides the similarities, > 0.
        alpha: Weight of the negatives' similarities, >= 0.
        beta: Weight of the positives' squared similarities, >= 0.
        gamma: Weight of the negatives' squared similarities, >= 0.
        normalize: Whether the similarities are cosines; otherwise they are dot products, as in the reference.
    """

    loss: RPCLoss

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        projector_layers: int = 3,
        projector_norm: bool = True,
        temperature: float = 32.0,
        alpha: float = 0.3,
        beta: float = 0.01,
        gamma: float = 0.1,
        normalize: bool = False,
    ) -> None:
        super().__init__(
            backbone,
            hidden_dim=hidden_dim,
            out_dim=out_dim,
            projector_layers=projector_layers,
            projector_norm=projector_norm,
        )
        self.loss = RPCLoss(temperature, alpha, beta, gamma, normalize)

    def chance_loss(self, num_images: int) -> float | None:
        """Best loss of dot products that are equal for all pairs: -(1 - alpha)^2 / (2 (beta + gamma))."""
        gap, curvature = 1 - self.loss.alpha, self.loss.beta + self.loss.gamma
        return None if self.loss.normalize else -(gap**2) / (2 * curvature)
