"""View presets: the augmentations of published methods, as lists of `ViewConfig`.

`size` is the side of the large views in pixels. The blur kernel scales with it (`ViewConfig.kernel_size`).
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
    "deepcluster_v2",
    "dino",
    "gray",
    "jigsaw",
    "moco_v2",
    "moco_v3",
    "rotation",
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
    """SimCLR: two views with the same settings (paper, appendix A; google-research/simclr/tf2/data_util.py).

    The original does not normalize by mean and std.
    """
    return [ViewConfig(count=2, size=size, interpolation="bicubic", jitter=_STRONG_COLOR)]


@PRESETS.register("byol")
def byol(size: int = 224) -> list[ViewConfig]:
    """BYOL: two views with different settings (paper, appendix B; deepmind-research/byol/utils/augmentations.py).

    The color operations are PIL's, as in Barlow Twins and VICReg. In the original, brightness is additive, and
    contrast is relative to the mean of each channel.
    """
    first = ViewConfig(size=size, interpolation="bicubic", jitter=_WEAK_COLOR, blur_p=1.0)
    return [first, replace(first, blur_p=0.1, solarize_p=0.2)]


@PRESETS.register("barlow_twins")
def barlow_twins(size: int = 224) -> list[ViewConfig]:
    """Barlow Twins: the two views of BYOL (facebookresearch/barlowtwins/main.py)."""
    return byol(size)


@PRESETS.register("vicreg")
def vicreg(size: int = 224) -> list[ViewConfig]:
    """VICReg: the two views of BYOL (facebookresearch/vicreg/augmentations.py)."""
    return byol(size)


@PRESETS.register("moco_v2")
def moco_v2(size: int = 224) -> list[ViewConfig]:
    """MoCo v2: two views with the same settings (facebookresearch/moco/main_moco.py)."""
    return [ViewConfig(count=2, size=size, crop_scale=(0.2, 1.0))]


@PRESETS.register("simsiam")
def simsiam(size: int = 224) -> list[ViewConfig]:
    """SimSiam: the two views of MoCo v2 (facebookresearch/simsiam/main_simsiam.py)."""
    return moco_v2(size)


@PRESETS.register("moco_v3")
def moco_v3(size: int = 224, crop_min: float = 0.2) -> list[ViewConfig]:
    """MoCo v3: the two views of BYOL with bilinear crops (facebookresearch/moco-v3/main_moco.py).

    Args:
        size: Side of the views in pixels.
        crop_min: Smallest crop area as a fraction of the image area: 0.2 for ResNet-50, 0.08 for ViT.
    """
    return [replace(view, interpolation="bilinear", crop_scale=(crop_min, 1.0)) for view in byol(size)]


@PRESETS.register("swav")
def swav(size: int = 224, small_size: int = 96, small_count: int = 6) -> list[ViewConfig]:
    """SwAV: two large and several small views (facebookresearch/swav/src/multicropdataset.py, main_swav.py).

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, less than `size`.
        small_count: Number of small views; 0 for none.
    """
    large = ViewConfig(count=2, size=size, crop_scale=(0.14, 1.0), jitter=_STRONG_COLOR)
    return [large, *_small(replace(large, crop_scale=(0.05, 0.14)), small_size, small_count)]


@PRESETS.register("dino")
def dino(size: int = 224, small_size: int = 96, small_count: int = 8, scale_split: float = 0.4) -> list[ViewConfig]:
    """DINO: two large views with different settings and several small views (facebookresearch/dino/main_dino.py).

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, less than `size`.
        small_count: Number of small views; 0 for none.
        scale_split: Fraction of the image area: large crops cover at least this, small crops from 0.05 up to this.
    """
    first, second = (replace(view, crop_scale=(scale_split, 1.0)) for view in byol(size))
    small = replace(first, crop_scale=(0.05, scale_split), blur_p=0.5)
    return [first, second, *_small(small, small_size, small_count)]


@PRESETS.register("rotation")
def rotation(size: int = 224) -> list[ViewConfig]:
    """Rotation prediction: one view, cropped and flipped, without color changes (arXiv:1803.07728, section 3)."""
    return [ViewConfig(size=size, jitter_p=0.0, grayscale_p=0.0, blur_p=0.0)]


@PRESETS.register("jigsaw")
def jigsaw(size: int = 225) -> list[ViewConfig]:
    """Jigsaw puzzles: one view, cropped and flipped, gray for 30 % of the images (arXiv:1603.09246, section 4.2)."""
    return [replace(rotation(size)[0], grayscale_p=0.3)]


@PRESETS.register("deepcluster_v2")
def deepcluster_v2(size: int = 224, small_size: int = 96, small_count: int = 6) -> list[ViewConfig]:
    """DeepCluster v2: the views of SwAV (facebookresearch/swav/main_deepclusterv2.py).

    Args:
        size: Side of the large views in pixels.
        small_size: Side of the small views in pixels, less than `size`.
        small_count: Number of small views; 0 for none.
    """
    return swav(size, small_size, small_count)


@PRESETS.register("simclr_small")
def simclr_small(size: int = 32) -> list[ViewConfig]:
    """SimCLR for CIFAR: half the jitter and no blur (paper, appendix B.9; google-research/simclr/tf2/README.md)."""
    return [ViewConfig(count=2, size=size, interpolation="bicubic", blur_p=0.0)]


@PRESETS.register("byol_small")
def byol_small(size: int = 32) -> list[ViewConfig]:
    """BYOL for CIFAR: two views without blur (solo-learn/scripts/pretrain/cifar/augmentations/asymmetric.yaml)."""
    return [replace(view, blur_p=0.0) for view in byol(size)]


@PRESETS.register("vicreg_small")
def vicreg_small(size: int = 32) -> list[ViewConfig]:
    """VICReg for CIFAR: two views with the same settings (solo-learn/scripts/pretrain/cifar/vicreg.yaml)."""
    return [replace(byol_small(size)[0], count=2, crop_scale=(0.2, 1.0), solarize_p=0.1)]


@PRESETS.register("gray")
def gray(size: int = 224) -> list[ViewConfig]:
    """SimCLR for gray images, such as X-rays or microscopy: jitter of brightness and contrast only.

    Not from a paper. The crops are larger than SimCLR's, because the relevant structures are often small.
    """
    jitter = (0.4, 0.4, 0.0, 0.0)
    return [ViewConfig(count=2, size=size, crop_scale=(0.2, 1.0), jitter=jitter, grayscale_p=0.0)]


@PRESETS.register("aerial")
def aerial(size: int = 224) -> list[ViewConfig]:
    """Two views for aerial or microscopy images with any number of channels: all eight orientations.

    Not from a paper. No operation mixes channels, so multispectral images work too.
    """
    return [replace(gray(size)[0], vertical_flip_p=0.5, turn_p=0.75)]


def _small(view: ViewConfig, size: int, count: int) -> list[ViewConfig]:
    if count == 0:
        return []
    if size >= view.size:
        raise ValueError(
            f"small_size must be less than the size of the large views, {view.size}, got {size}; use "
            f"{round(view.size * 96 / 224)} to keep the usual ratio (96 / 224), or small_count=0 for no small views"
        )
    return [replace(view, count=count, size=size)]
