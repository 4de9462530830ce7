"""View presets of contrastive and supervised methods, a part of `ssl_lib.views.presets`."""

from __future__ import annotations

from dataclasses import replace

from ssl_lib.registry import PRESETS
from ssl_lib.views.config import ViewConfig

__all__ = ["dcl", "directclr", "instance_discrimination", "pcl", "pirl", "propos", "rpc", "supcon", "vcreg", "yadim"]


@PRESETS.register("supcon")
def supcon(size: int = 224) -> list[ViewConfig]:
    """SupCon: two views with the same settings, without blur (HobbitLong/SupContrast/main_supcon.py)."""
    return [ViewConfig(count=2, size=size, crop_scale=(0.2, 1.0), blur_p=0.0)]


@PRESETS.register("dcl")
def dcl(size: int = 224) -> list[ViewConfig]:
    """DCL: the two views of SimCLR (arXiv:2110.06848)."""
    return [ViewConfig(count=2, size=size, interpolation="bicubic", jitter=(0.8, 0.8, 0.8, 0.2))]


@PRESETS.register("rpc")
def rpc(size: int = 224) -> list[ViewConfig]:
    """RPC: the two views of SimCLR (martinmamql/relative_predictive_coding/vision/data_util.py)."""
    return dcl(size)


@PRESETS.register("directclr")
def directclr(size: int = 224) -> list[ViewConfig]:
    """DirectCLR: the two views of BYOL (facebookresearch/directclr/directclr/utils.py)."""
    first = ViewConfig(size=size, interpolation="bicubic", jitter=(0.4, 0.4, 0.2, 0.1), blur_p=1.0)
    return [first, replace(first, blur_p=0.1, solarize_p=0.2)]


@PRESETS.register("yadim")
def yadim(size: int = 128) -> list[ViewConfig]:
    """YADIM: the two views of AMDIM (lightning-bolts/pl_bolts/models/self_supervised/amdim/transforms.py).

    AMDIM flips both views of an image together, here each is flipped by itself. YADIM adds the patches of CPC
    (arXiv:2009.00104), which are left out.
    """
    crop = ViewConfig(count=2, size=size, crop_scale=(0.3, 1.0), crop_ratio=(0.7, 1.4), interpolation="bicubic")
    return [replace(crop, grayscale_p=0.25, blur_p=0.0)]


@PRESETS.register("vcreg")
def vcreg(size: int = 224) -> list[ViewConfig]:
    """VCReg: one view, cropped and flipped, without color changes, as in torchvision's training (arXiv:2306.13292)."""
    return [ViewConfig(size=size, jitter_p=0.0, grayscale_p=0.0, blur_p=0.0)]


@PRESETS.register("instance_discrimination")
def instance_discrimination(size: int = 224) -> list[ViewConfig]:
    """NPID: one view without blur (zhirongw/lemniscate.pytorch/main.py, where grayscale comes before the jitter)."""
    return [ViewConfig(size=size, crop_scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, blur_p=0.0)]


@PRESETS.register("pirl")
def pirl(size: int = 224) -> list[ViewConfig]:
    """PIRL: the image, and a large crop for the tiles (vissl/configs/.../pirl/pirl_jigsaw_4node_resnet50.yaml).

    In the original, the view for the tiles has 255 pixels, each tile gets a color change and a flip of its own, and
    posterize, sharpness, solarize and autocontrast are applied together to 66 % of the images.
    """
    image = ViewConfig(size=size, jitter=(0.4, 0.4, 0.4, 0.2), jitter_p=1.0, blur_p=0.0)
    return [image, replace(image, crop_scale=(0.6, 1.0))]


@PRESETS.register("pcl")
def pcl(size: int = 224) -> list[ViewConfig]:
    """PCL v2: the two views of MoCo v2 (salesforce/PCL/main_pcl.py, `--aug-plus`)."""
    return [replace(supcon(size)[0], blur_p=0.5)]


@PRESETS.register("propos")
def propos(size: int = 224) -> list[ViewConfig]:
    """ProPos: two views with the same settings, without blur (Hzzone/ProPos/models/basic_template.py)."""
    return [replace(supcon(size)[0], crop_scale=(0.08, 1.0))]
