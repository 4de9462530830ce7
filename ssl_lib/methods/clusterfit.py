"""ClusterFit: classifies images by clusters of another network's features."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ssl_lib.backbones.frozen import Frozen
from ssl_lib.methods.deepcluster import DeepCluster
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress


@METHODS.register("clusterfit")
class ClusterFit(DeepCluster):
    """ClusterFit (Yan et al. 2020, arXiv:1912.03330; facebookresearch/vissl, tools/cluster_features_and_label.py).

    DeepCluster with the clusters of a frozen network, found once, before the first epoch: of its features without
    augmentation, scaled to unit length. All images have the same weight, and the classifier is not reset. k-means
    starts from k-means++, in the reference from random images.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        pretrained: Network whose features are clustered; it is copied and does not change. In a config, a backbone's
            name and arguments, with `weights`.
        num_images: Number of training images; `build` takes it from the data.
        num_clusters: Number of clusters, at most the number of images.
        iterations: Maximum number of iterations of k-means.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        pretrained: nn.Module,
        num_images: int,
        num_clusters: int = 16000,
        iterations: int = 50,
    ) -> None:
        super().__init__(backbone, num_images=num_images, num_clusters=num_clusters, iterations=iterations)
        self.pretrained = Frozen(pretrained)

    def before_epoch(self, progress: Progress, encode: Callable[[nn.Module], Tensor]) -> None:
        """Clusters the features of the frozen network, before the first epoch."""
        if progress.step == 0:
            self.label(encode(self.pretrained), seed=0)
