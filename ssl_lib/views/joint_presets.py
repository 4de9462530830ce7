"""View presets of methods that whiten or spread embeddings, a part of `ssl_lib.views.presets`."""

from __future__ import annotations

from dataclasses import replace

from ssl_lib.registry import PRESETS
from ssl_lib.views.config import ViewConfig

__all__ = ["mmcr", "tico", "w_mse"]


@PRESETS.register("tico")
def tico(size: int = 224) -> list[ViewConfig]:
    """TiCo: the two views of BYOL (arXiv:2206.10698; lightly/transforms/tico_transform.py)."""
    return list(PRESETS["byol"](size))


@PRESETS.register("w_mse")
def w_mse(size: int = 224, count: int = 2) -> list[ViewConfig]:
    """W-MSE: views without blur (htdt/self-supervised/cfg.py, datasets/transforms.py, where colors precede the crop).

    Args:
        size: Side of the views in pixels.
        count: Number of views.
    """
    return [
        ViewConfig(count=count, size=size, crop_scale=(0.2, 1.0), interpolation="bicubic", grayscale_p=0.1, blur_p=0.0)
    ]


@PRESETS.register("mmcr")
def mmcr(size: int = 224, count: int = 2) -> list[ViewConfig]:
    """MMCR: the two views of Barlow Twins (ThomasYerxa/mmcr/mmcr/imagenet/data.py).

    Args:
        size: Side of the views in pixels.
        count: Number of views, even: half of them with the settings of each.
    """
    if count < 2 or count % 2:
        raise ValueError(f"count must be even and at least 2, got {count}")
    return [replace(view, count=count // 2) for view in PRESETS["barlow_twins"](size)]
