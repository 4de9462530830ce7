"""The views of the published methods, as lists of `ViewConfig`.

A `size` is the side of the large views in pixels; the blur kernel follows it (`ViewConfig.kernel_size`).
"""

from __future__ import annotations

from dataclasses import replace

from ssl_lib.registry import PRESETS
from ssl_lib.views.config import ViewConfig

__all__ = [
    "aerial",
    "barlow_twins",
    "byol",
    "byol_small",
    "dino",
    "gray",
    "moco_v2",
    "moco_v3",
    "simclr",
    "simclr_small",
    "simsiam",
    "swav",
    "vicreg",
    "vicreg_small",
]

_WEAK_COLOR = (0.4, 0.4, 0.2, 0.1)
_STRONG_COLOR = (0.8, 0.8, 0.8, 0.2)


@PRESETS.register("simclr")
def simclr(size: int = 224) -> list[ViewConfig]:
    """SimCLR, two views alike (paper, appendix A; google-research/simclr/tf2/data_util.py).

    The original does not normalize by mean and std.

    Args:
        size: Side of the views in pixels.
    """
    return [ViewConfig(count=2, size=size, interpolation="bicubic", jitter=_STRONG_COLOR)]


@PRESETS.register("byol")
def byol(size: int = 224) -> list[ViewConfig]:
    """BYOL, an asymmetric pair (paper, appendix B; deepmind-research/byol/utils/augmentations.py).

    The color steps are PIL's, as in Barlow Twins and VICReg: the original's brightness is additive and its contrast
    about each channel's own mean.

    Args:
        size: Side of the views in pixels.
    """
    first = ViewConfig(size=size, interpolation="bicubic", jitter=_WEAK_COLOR, blur_p=1.0)
    return [first, replace(first, blur_p=0.1, solarize_p=0.2)]


@PRESETS.register("barlow_twins")
def barlow_twins(size: int = 224) -> list[ViewConfig]:
    """Barlow Twins, BYOL's pair (facebookresearch/barlowtwins/main.py).

    Args:
        size: Side of the views in pixels.
    """
    return byol(size)


@PRESETS.register("vicreg")
def vicreg(size: int = 224) -> list[ViewConfig]:
    """VICReg, BYOL's pair (facebookresearch/vicreg/augmentations.py).

    Args:
        size: Side of the views in pixels.
    """
    return byol(size)


@PRESETS.register("moco_v2")
def moco_v2(size: int = 224) -> list[ViewConfig]:
    """MoCo v2, two views alike (facebookresearch/moco/main_moco.py).

    Args:
        size: Side of the views in pixels.
    """
    return [ViewConfig(count=2, size=size, crop_scale=(0.2, 1.0))]


@PRESETS.register("simsiam")
def simsiam(size: int = 224) -> list[ViewConfig]:
    """SimSiam, MoCo v2's views (facebookresearch/simsiam/main_simsiam.py).

    Args:
        size: Side of the views in pixels.
    """
    return moco_v2(size)


@PRESETS.register("moco_v3")
def moco_v3(size: int = 224, crop_min: float = 0.2) -> list[ViewConfig]:
    """MoCo v3, BYOL's pair with bilinear crops (facebookresearch/moco-v3/main_moco.py).

    Args:
        size: Side of the views in pixels.
        crop_min: Smallest share of the area: 0.2 for ResNet-50, 0.08 for ViT.
    """
    return [replace(view, interpolation="bilinear", crop_scale=(crop_min, 1.0)) for view in byol(size)]


@PRESETS.register("swav")
def swav(size: int = 224, small_size: int = 96, small_count: int = 6) -> list[ViewConfig]:
    """SwAV, two large and several small views (facebookresearch/swav/src/multicropdataset.py, main_swav.py).

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, below `size`.
        small_count: Number of small views; 0 leaves them out.
    """
    large = ViewConfig(count=2, size=size, crop_scale=(0.14, 1.0), jitter=_STRONG_COLOR)
    return [large, *_small(replace(large, crop_scale=(0.05, 0.14)), small_size, small_count)]


@PRESETS.register("dino")
def dino(size: int = 224, small_size: int = 96, small_count: int = 8, scale_split: float = 0.4) -> list[ViewConfig]:
    """DINO, an asymmetric pair of large views and several small ones (facebookresearch/dino/main_dino.py).

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, below `size`.
        small_count: Number of small views; 0 leaves them out.
        scale_split: Large crops take from this share of the area to all of it, small crops from 0.05 to this share.
    """
    first, second = (replace(view, crop_scale=(scale_split, 1.0)) for view in byol(size))
    small = replace(first, crop_scale=(0.05, scale_split), blur_p=0.5)
    return [first, second, *_small(small, small_size, small_count)]


@PRESETS.register("simclr_small")
def simclr_small(size: int = 32) -> list[ViewConfig]:
    """SimCLR for CIFAR: half the jitter and no blur (paper, appendix B.9; google-research/simclr/tf2/README.md).

    Args:
        size: Side of the views in pixels.
    """
    return [ViewConfig(count=2, size=size, interpolation="bicubic", blur_p=0.0)]


@PRESETS.register("byol_small")
def byol_small(size: int = 32) -> list[ViewConfig]:
    """BYOL's pair for CIFAR, without blur (solo-learn/scripts/pretrain/cifar/augmentations/asymmetric.yaml).

    Args:
        size: Side of the views in pixels.
    """
    return [replace(view, blur_p=0.0) for view in byol(size)]


@PRESETS.register("vicreg_small")
def vicreg_small(size: int = 32) -> list[ViewConfig]:
    """VICReg for CIFAR, two views alike (solo-learn/scripts/pretrain/cifar/vicreg.yaml).

    Args:
        size: Side of the views in pixels.
    """
    first = replace(byol_small(size)[0], count=2, crop_scale=(0.2, 1.0), solarize_p=0.1)
    return [first]


@PRESETS.register("gray")
def gray(size: int = 224) -> list[ViewConfig]:
    """SimCLR's pair for gray images, such as X-rays or microscopy: brightness and contrast are what can vary.

    Ours; no paper's. Larger crops than SimCLR's, as what matters in such images is often small.

    Args:
        size: Side of the views in pixels.
    """
    jitter = (0.4, 0.4, 0.0, 0.0)
    return [ViewConfig(count=2, size=size, crop_scale=(0.2, 1.0), jitter=jitter, grayscale_p=0.0)]


@PRESETS.register("aerial")
def aerial(size: int = 224) -> list[ViewConfig]:
    """A pair for images from above or through a microscope, of any number of channels: all eight orientations.

    Ours; no paper's. No operation mixes channels, so that bands beyond red, green and blue are welcome.

    Args:
        size: Side of the views in pixels.
    """
    return [replace(gray(size)[0], vertical_flip_p=0.5, turn_p=0.75)]


def _small(view: ViewConfig, size: int, count: int) -> list[ViewConfig]:
    if count == 0:
        return []
    if size >= view.size:
        raise ValueError(
            f"small_size must be below the size of the large views, {view.size}, got {size}; "
            f"{round(view.size * 96 / 224)} keeps the usual proportion, small_count=0 leaves the small views out"
        )
    return [replace(view, count=count, size=size)]
