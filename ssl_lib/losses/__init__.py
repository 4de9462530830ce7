"""Self-supervised losses: tensors in, scalar out, computed in at least float32 over the global batch."""

from ssl_lib.clustering import spherical_kmeans
from ssl_lib.losses.barlow_twins import BarlowTwinsLoss
from ssl_lib.losses.cross_entropy import cross_entropy
from ssl_lib.losses.deepcluster import DeepClusterV2Loss
from ssl_lib.losses.dino import DINOLoss
from ssl_lib.losses.info_nce import InfoNCELoss
from ssl_lib.losses.koleo import KoLeoLoss
from ssl_lib.losses.negative_cosine import NegativeCosineLoss
from ssl_lib.losses.ntxent import NTXentLoss
from ssl_lib.losses.sinkhorn import sinkhorn
from ssl_lib.losses.swav import SwAVLoss
from ssl_lib.losses.vicreg import VCRegLoss, VICRegLoss

__all__ = [
    "BarlowTwinsLoss",
    "DINOLoss",
    "DeepClusterV2Loss",
    "InfoNCELoss",
    "KoLeoLoss",
    "NTXentLoss",
    "NegativeCosineLoss",
    "SwAVLoss",
    "VCRegLoss",
    "VICRegLoss",
    "cross_entropy",
    "sinkhorn",
    "spherical_kmeans",
]
