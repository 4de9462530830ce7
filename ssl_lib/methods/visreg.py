"""VISReg: LeJEPA with a regularization of the mean, scale and shape of the embeddings' distribution."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ssl_lib.losses import VISRegLoss
from ssl_lib.methods.lejepa import LeJEPA
from ssl_lib.registry import METHODS


@METHODS.register("visreg")
class VISReg(LeJEPA):
    """VISReg (Wu et al. 2026, arXiv:2606.02572; HaiyuWu/visreg, train.py, configs/default.yaml and visreg/models).

    As in `LeJEPA`, every update has new directions, the same in all processes; the reference draws them in each GPU.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's two hidden layers.
        out_dim: Width of the embeddings; a third of the backbone's in the reference.
        num_slices: Number of random directions.
        weight: Weight of the regularization, in [0, 1]; the agreement has the rest. 0.8 for ViT-L, 0.6 on Imagenette.
        activation: Activation of the projector.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 2048,
        out_dim: int = 256,
        num_slices: int = 4096,
        weight: float = 0.9,
        activation: Literal["relu", "gelu"] = "gelu",
    ) -> None:
        super().__init__(
            backbone,
            hidden_dim=hidden_dim,
            out_dim=out_dim,
            num_slices=num_slices,
            weight=weight,
            activation=activation,
        )
        self.regularization = VISRegLoss(num_slices)
