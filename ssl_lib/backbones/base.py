"""Interface of backbones: any network that maps images (N, C, H, W) to features (N, D) and declares D as `out_dim`."""

from __future__ import annotations

from torch import nn

__all__ = ["feature_dim"]


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
