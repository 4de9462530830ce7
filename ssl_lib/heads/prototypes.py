"""The prototype layer of clustering methods."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Prototypes"]


class Prototypes(nn.Module):
    """Compares unit-length embeddings with unit-length prototypes: the last layer of DINO's head.

    Source: `DINOHead` of dino/vision_transformer.py: a weight-normalized Linear without bias, which starts
    from torch's initialization of a Linear with every norm set to 1.

    Args:
        in_dim: D, width of the embeddings.
        num_prototypes: K.
        free_scale: Learn each prototype's norm (the reference's `norm_last_layer=False`), else fixed at 1.

    Attributes:
        weight: (K, D), the prototypes before normalization.
        scale: (K, 1), their norms, or None where fixed at 1.

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
        """Scores embeddings (N, D) of any length: cosines with the prototypes (N, K), times `scale`."""
        weight = F.normalize(self.weight, dim=-1)
        if self.scale is not None:
            weight = weight * self.scale
        eps = max(1e-12, torch.finfo(x.dtype).tiny)  # 1e-12 is 0 in fp16, and a row of zeros would turn NaN
        return F.linear(F.normalize(x, dim=-1, eps=eps), weight)
