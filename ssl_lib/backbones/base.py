"""Interface of backbones: any network that maps images (N, C, H, W) to features (N, D) and declares D as `out_dim`."""

from __future__ import annotations

from typing import Literal

from torch import nn

__all__ = ["Needs", "check_backbone", "feature_dim", "image_channels"]

Needs = Literal["features", "tokens", "maps"]

_CALLS = {
    "features": ("forward", "features", "resnet18"),
    "tokens": ("tokens", "patch tokens", "vit_small"),
    "maps": ("feature_map", "feature maps", "resnet18"),
}
"""By need: the function of the backbone, what it returns, and a backbone that has it."""


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


def image_channels(backbone: nn.Module) -> int:
    """Returns the number of channels of a backbone's images: its first convolution's, or 3 if it has none."""
    return next((part.in_channels for part in backbone.modules() if isinstance(part, nn.Conv2d)), 3)


def check_backbone(backbone: nn.Module, needs: Needs, method: str) -> None:
    """Checks that a backbone has what a method needs.

    Args:
        backbone: The network.
        needs: `features` (N, D) by `forward`, `tokens` of patches, or feature `maps`.
        method: Name of the method for the message.

    Raises:
        ValueError: The backbone lacks it; the message names a backbone that has it.
    """
    call, what, example = _CALLS[needs]
    if not callable(getattr(backbone, call, None)):
        raise ValueError(
            f"{method} needs a backbone with {what}, such as {example}; {type(backbone).__name__} has none"
        )
