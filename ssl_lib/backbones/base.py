"""Backbone protocol: a network with an `out_dim`."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

__all__ = ["Backbone", "feature_dim"]


class Backbone(Protocol):
    """Network that maps normalized images to features: any `nn.Module` with an `out_dim`.

    Attributes:
        out_dim: Width of the features.
    """

    out_dim: int

    def __call__(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, out_dim)."""
        ...


def feature_dim(backbone: nn.Module) -> int:
    """Returns the feature width of a backbone.

    Raises:
        ValueError: The backbone has no integer `out_dim`.
    """
    width = getattr(backbone, "out_dim", None)
    if not isinstance(width, int):
        raise ValueError(
            f"the backbone {type(backbone).__name__} must declare its feature width: set its attribute out_dim to an "
            f"integer (got {width!r})"
        )
    return width
