"""View presets of clustering methods, a part of `ssl_lib.views.presets`."""

from __future__ import annotations

from dataclasses import replace

from ssl_lib.registry import PRESETS
from ssl_lib.views.config import ViewConfig

__all__ = ["clusterfit", "contrastive_clustering", "deepcluster", "sela"]


@PRESETS.register("contrastive_clustering")
def contrastive_clustering(size: int = 224) -> list[ViewConfig]:
    """Contrastive Clustering: two views with the same settings (Yunfan-Li/Contrastive-Clustering/modules/transform.py).

    The settings are those for ImageNet-10. For CIFAR and Tiny-ImageNet, the jitter is half as strong, without blur.
    """
    return [ViewConfig(count=2, size=size, jitter=(0.8, 0.8, 0.8, 0.2))]


@PRESETS.register("sela")
def sela(size: int = 224) -> list[ViewConfig]:
    """SeLa: one view without blur (yukimasano/self-label/data.py, where grayscale comes before the jitter)."""
    return [ViewConfig(size=size, jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, blur_p=0.0)]


@PRESETS.register("clusterfit")
def clusterfit(size: int = 224) -> list[ViewConfig]:
    """ClusterFit: one view in color (vissl/configs/config/pretrain/clusterfit/clusterfit_resnet_8gpu_imagenet.yaml)."""
    return [replace(sela(size)[0], jitter=(0.4, 0.4, 0.4, 0.2), grayscale_p=0.0)]


@PRESETS.register("deepcluster")
def deepcluster(size: int = 224) -> list[ViewConfig]:
    """DeepCluster: one view, cropped and flipped, without color changes (facebookresearch/deepcluster/main.py)."""
    return [replace(sela(size)[0], jitter_p=0.0, grayscale_p=0.0)]
