"""View presets with several large and small views, a part of `ssl_lib.views.presets`."""

from __future__ import annotations

from dataclasses import replace

from ssl_lib.registry import PRESETS
from ssl_lib.views.config import ViewConfig

__all__ = ["deepcluster_v2", "dino", "lejepa", "simdino", "swav", "visreg"]


@PRESETS.register("swav")
def swav(size: int = 224, small_size: int = 96, small_count: int = 6) -> list[ViewConfig]:
    """SwAV: two large and several small views (facebookresearch/swav/src/multicropdataset.py, main_swav.py).

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, less than `size`.
        small_count: Number of small views; 0 for none.
    """
    large = ViewConfig(count=2, size=size, crop_scale=(0.14, 1.0), jitter=(0.8, 0.8, 0.8, 0.2))
    return [large, *_small(replace(large, crop_scale=(0.05, 0.14)), small_size, small_count)]


@PRESETS.register("deepcluster_v2")
def deepcluster_v2(size: int = 224, small_size: int = 96, small_count: int = 6) -> list[ViewConfig]:
    """DeepCluster v2: the views of SwAV (facebookresearch/swav/main_deepclusterv2.py).

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, less than `size`.
        small_count: Number of small views; 0 for none.
    """
    return swav(size, small_size, small_count)


@PRESETS.register("dino")
def dino(size: int = 224, small_size: int = 96, small_count: int = 8, scale_split: float = 0.4) -> list[ViewConfig]:
    """DINO: two large views with different settings and several small views (facebookresearch/dino/main_dino.py).

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, less than `size`.
        small_count: Number of small views; 0 for none.
        scale_split: Fraction of the image area: large crops cover at least this, small crops from 0.05 up to this.
    """
    first, second = (replace(view, crop_scale=(scale_split, 1.0)) for view in PRESETS["byol"](size))
    small = replace(first, crop_scale=(0.05, scale_split), blur_p=0.5)
    return [first, second, *_small(small, small_size, small_count)]


@PRESETS.register("simdino")
def simdino(size: int = 224, small_size: int = 96, small_count: int = 8) -> list[ViewConfig]:
    """SimDINO: the views of DINO (RobinWu218/SimDINO/simdino/main_dino.py).

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, less than `size`.
        small_count: Number of small views; 0 for none, 10 in the README.md.
    """
    return dino(size, small_size, small_count)


@PRESETS.register("lejepa")
def lejepa(size: int = 224, small_size: int = 98, small_count: int = 6) -> list[ViewConfig]:
    """LeJEPA: two large and several small views that differ in their crops only (rbalestr-lab/lejepa/README.md).

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, less than `size`.
        small_count: Number of small views; 0 for none.
    """
    large = ViewConfig(count=2, size=size, crop_scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), solarize_p=0.2)
    return [large, *_small(replace(large, crop_scale=(0.05, 0.3)), small_size, small_count)]


@PRESETS.register("visreg")
def visreg(size: int = 224, small_size: int = 96, small_count: int = 6) -> list[ViewConfig]:
    """VISReg: four large and several small views (HaiyuWu/visreg/configs/default.yaml, visreg/data/multicrop.py).

    The reference blurs with a kernel of 9 pixels at every size.

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, less than `size`.
        small_count: Number of small views; 0 for none.
    """
    large, *small = lejepa(size, small_size, small_count)
    large = replace(large, count=4)
    return [replace(view, interpolation="bicubic", blur_kernel=9) for view in (large, *small)]


def _small(view: ViewConfig, size: int, count: int) -> list[ViewConfig]:
    if count == 0:
        return []
    if size >= view.size:
        raise ValueError(
            f"small_size must be less than the size of the large views, {view.size}, got {size}; use "
            f"{round(view.size * 96 / 224)} to keep the usual ratio (96 / 224), or small_count=0 for no small views"
        )
    return [replace(view, count=count, size=size)]
