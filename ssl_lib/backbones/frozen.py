"""A frozen network inside a method, such as a trained one whose features are clustered or predicted."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["Frozen"]


class Frozen(nn.Module):
    """Copy of a network that never changes: in eval mode, also if the method is trained, and without gradient.

    Its state is part of the method's, so that a checkpoint is complete without the file of the network's weights.

    Args:
        network: The network to copy; it is left unchanged.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Frozen:
        """Keeps the network in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Applies the network, without gradient."""
        out: Tensor = self.network(images)
        return out
