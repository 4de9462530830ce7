"""Prototype layers of clustering methods: cosine similarities with learned unit vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lib.distributed import local
from ssl_lib.utils.rows import unit_rows

__all__ = ["Prototypes", "UnitPrototypes"]


class Prototypes(nn.Module):
    """Cosine similarity between embeddings and learned prototypes, as in the last layer of DINO's head.

    Source: `DINOHead` of dino/vision_transformer.py: a weight-normalized Linear without bias. Prototypes
    are initialized like the weight of a torch Linear, with all norms set to 1.

    Args:
        in_dim: Width D of the embeddings.
        num_prototypes: Number of prototypes K.
        free_scale: Whether to learn the norm of each prototype (`norm_last_layer=False` in the reference) instead of
            fixing it at 1.

    Attributes:
        weight: Prototypes before normalization, (K, D).
        scale: Norms of the prototypes, (K, 1), or None if they are fixed at 1.

    Raises:
        ValueError: A width is not positive.
    """

    def __init__(self, in_dim: int, num_prototypes: int, *, free_scale: bool = False) -> None:
        super().__init__()
        if in_dim < 1 or num_prototypes < 1:
            raise ValueError(f"in_dim and num_prototypes must be positive, got {in_dim} and {num_prototypes}")
        bound = in_dim**-0.5
        self.weight = nn.Parameter(torch.empty(num_prototypes, in_dim).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.ones(num_prototypes, 1)) if free_scale else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns cosine similarities (N, K) between embeddings (N, D) and prototypes, multiplied by `scale` if set."""
        weight = unit_rows(self.weight)
        if self.scale is not None:
            weight = weight * self.scale
        return F.linear(unit_rows(x), weight)


class UnitPrototypes(nn.Linear):
    """Similarities with prototypes that are scaled to unit length after every update, outside of the gradient.

    Source: `prototypes` of swav/src/resnet50.py and main_swav.py. In contrast to `Prototypes`, the gradient does not
    flow through the normalization.

    Args:
        in_dim: Width D of the embeddings, which the caller normalizes.
        num_prototypes: Number of prototypes K.
    """

    def __init__(self, in_dim: int, num_prototypes: int) -> None:
        super().__init__(in_dim, num_prototypes, bias=False)
        self.normalize()

    @torch.no_grad()
    def normalize(self) -> None:
        """Scales every prototype to unit length; for `Method.after_update`."""
        rows = local(self.weight)
        rows.copy_(unit_rows(rows))
