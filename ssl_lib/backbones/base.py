"""The contract of a backbone."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

__all__ = ["Backbone", "feature_dim"]


class Backbone(Protocol):
    """A network from normalized images to features; any `nn.Module` with an `out_dim` is one.

    Attributes:
        out_dim: Width of the features.
    """

    out_dim: int

    def __call__(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, out_dim)."""
        ...


def feature_dim(backbone: nn.Module) -> int:
    """The width of a backbone's features.

    Raises:
        ValueError: The backbone declares no integer `out_dim`.
    """
    width = getattr(backbone, "out_dim", None)
    if not isinstance(width, int):
        raise ValueError(
            f"the backbone {type(backbone).__name__} must declare its feature width: set an integer attribute "
            f"out_dim on it (found {width!r})"
        )
    return width
