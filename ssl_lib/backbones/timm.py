"""timm models as backbones, registered as `timm/<name>`; requires the extra `timm`."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from ssl_lib.backbones.weights import load_weights
from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.registry import BACKBONES
from ssl_lib.utils.optional import needs

__all__ = ["timm_backbone"]


@BACKBONES.register("timm/*")
def timm_backbone(
    model_name: str,
    *,
    pretrained: bool = False,
    in_channels: int = 3,
    drop_path: float = 0.0,
    image_size: int | None = None,
    weights: str | None = None,
) -> nn.Module:
    """Builds a timm model without its classifier: (N, C, H, W) -> (N, out_dim).

    Args:
        model_name: Name of the timm model, with or without a pretrained tag, e.g. "vit_tiny_patch16_224.augreg_in21k".
        pretrained: Whether to download pretrained weights.
        in_channels: Number of image channels; timm adapts pretrained stems.
        drop_path: Stochastic depth rate in [0, 1), for models that support it.
        image_size: Image size in pixels, passed to models that are built for a fixed size (ViT, Swin); other models
            accept any size and ignore it.
        weights: Initial weights: a state dict file, or a run folder or checkpoint; see `load_weights`.

    Raises:
        ConfigError: timm is not installed, the model, its weights or one of the options is unknown to timm, both
            `pretrained` and `weights` are given, or the weights do not fit.
    """
    if pretrained and weights is not None:
        raise ConfigError(f"give either pretrained: true or weights: {weights!r}, not both")
    with needs("timm", f"backbone timm/{model_name}"):
        timm: Any = importlib.import_module("timm")
    if not timm.is_model(model_name):
        raise ConfigError(f"timm has no model {model_name!r}.{did_you_mean(model_name, timm.list_models())}")
    try:
        fixed_size = timm.models.get_pretrained_cfg(model_name, allow_unregistered=True).fixed_input_size
        # timm ignores options that are None.
        options = {"drop_path_rate": drop_path or None, "img_size": image_size if fixed_size else None}
        net: nn.Module = timm.create_model(model_name, pretrained, num_classes=0, in_chans=in_channels, **options)
    except Exception as error:  # error types for bad options, tags and downloads vary by model
        given = {"pretrained": pretrained, "in_channels": in_channels, "drop_path": drop_path, "image_size": image_size}
        raise ConfigError(f"timm cannot build {model_name!r} with {given}: {error}") from error
    net.out_dim = getattr(net, "head_hidden_size", None) or net.num_features
    if weights is not None:
        load_weights(net, weights)
    return net
