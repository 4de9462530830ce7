"""View presets: the augmentations of published methods, as lists of `ViewConfig`.

`size` is the side of the large views in pixels. The blur kernel scales with it (`ViewConfig.kernel_size`).
"""

from __future__ import annotations

from dataclasses import replace

from ssl_lib.registry import PRESETS
from ssl_lib.views.clustering_presets import clusterfit, contrastive_clustering, deepcluster, sela
from ssl_lib.views.config import ViewConfig
from ssl_lib.views.contrastive_presets import (
    dcl,
    directclr,
    instance_discrimination,
    pcl,
    pirl,
    propos,
    rpc,
    supcon,
    vcreg,
    yadim,
)
from ssl_lib.views.joint_presets import mmcr, tico, w_mse
from ssl_lib.views.multi_crop_presets import deepcluster_v2, dino, lejepa, simdino, swav, visreg
from ssl_lib.views.pretext_presets import colorization, jigsaw, relative_location, rotation

__all__ = [
    "aerial",
    "barlow_twins",
    "byol",
    "byol_small",
    "clusterfit",
    "colorization",
    "contrastive_clustering",
    "dcl",
    "deepcluster",
    "deepcluster_v2",
    "dino",
    "directclr",
    "gray",
    "ifm",
    "instance_discrimination",
    "jigsaw",
    "lejepa",
    "mmcr",
    "moco_v1",
    "moco_v2",
    "moco_v3",
    "nnclr",
    "pcl",
    "pirl",
    "propos",
    "relative_location",
    "ressl",
    "rotation",
    "rpc",
    "sela",
    "simclr",
    "simclr_small",
    "simdino",
    "simsiam",
    "supcon",
    "swav",
    "tico",
    "vcreg",
    "vicreg",
    "vicreg_small",
    "visreg",
    "w_mse",
    "yadim",
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


@PRESETS.register("moco_v1")
def moco_v1(size: int = 224) -> list[ViewConfig]:
    """MoCo v1: two views without blur (facebookresearch/moco/main_moco.py, where grayscale comes before the jitter)."""
    return [replace(moco_v2(size)[0], jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, blur_p=0.0)]


@PRESETS.register("ifm")
def ifm(size: int = 224) -> list[ViewConfig]:
    """IFM: the two views of MoCo v2 (joshr17/IFM/moco-master/main_moco.py, `--aug-plus`)."""
    return moco_v2(size)


@PRESETS.register("ressl")
def ressl(size: int = 224) -> list[ViewConfig]:
    """ReSSL: a view of MoCo v2, and for the teacher a crop with a flip (KyleZheng1997/ReSSL/data/augmentation.py)."""
    strong = replace(moco_v2(size)[0], count=1)
    return [strong, replace(strong, jitter_p=0.0, grayscale_p=0.0, blur_p=0.0)]


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


@PRESETS.register("nnclr")
def nnclr(size: int = 224) -> list[ViewConfig]:
    """NNCLR: the two views of BYOL (arXiv:2104.14548; solo-learn/scripts/pretrain/cifar/nnclr.yaml)."""
    return byol(size)


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
