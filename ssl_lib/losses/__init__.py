"""Self-supervised losses: tensors in, scalar out, computed in at least float32 over the global batch."""

from ssl_lib.clustering import spherical_kmeans
from ssl_lib.losses.amdim import AMDIMLoss
from ssl_lib.losses.barlow_twins import BarlowTwinsLoss
from ssl_lib.losses.cluster_contrast import ClusterContrastLoss
from ssl_lib.losses.coding_rate import CodingRateLoss
from ssl_lib.losses.colorization import ColorizationLoss
from ssl_lib.losses.cross_entropy import cross_entropy
from ssl_lib.losses.dcl import DCLLoss
from ssl_lib.losses.deepcluster import DeepClusterV2Loss
from ssl_lib.losses.dino import DINOLoss
from ssl_lib.losses.directclr import DirectCLRLoss
from ssl_lib.losses.directions import random_directions
from ssl_lib.losses.info_nce import InfoNCELoss
from ssl_lib.losses.koleo import KoLeoLoss
from ssl_lib.losses.mmcr import MMCRLoss
from ssl_lib.losses.moco_v3 import MoCoV3Loss
from ssl_lib.losses.negative_cosine import NegativeCosineLoss
from ssl_lib.losses.ntxent import NTXentLoss
from ssl_lib.losses.pirl import PIRLLoss
from ssl_lib.losses.propos import ProPosLoss
from ssl_lib.losses.proto_nce import ProtoNCELoss, concentration
from ssl_lib.losses.raft import RAFTLoss
from ssl_lib.losses.ressl import ReSSLLoss
from ssl_lib.losses.rpc import RPCLoss
from ssl_lib.losses.sigreg import SIGRegLoss
from ssl_lib.losses.sinkhorn import sinkhorn
from ssl_lib.losses.supcon import SupConLoss
from ssl_lib.losses.swav import SwAVLoss
from ssl_lib.losses.tico import TiCoLoss
from ssl_lib.losses.vicreg import VCRegLoss, VICRegLoss
from ssl_lib.losses.visreg import VISRegLoss
from ssl_lib.losses.w_mse import WMSELoss, whiten

__all__ = [
    "AMDIMLoss",
    "BarlowTwinsLoss",
    "ClusterContrastLoss",
    "CodingRateLoss",
    "ColorizationLoss",
    "DCLLoss",
    "DINOLoss",
    "DeepClusterV2Loss",
    "DirectCLRLoss",
    "InfoNCELoss",
    "KoLeoLoss",
    "MMCRLoss",
    "MoCoV3Loss",
    "NTXentLoss",
    "NegativeCosineLoss",
    "PIRLLoss",
    "ProPosLoss",
    "ProtoNCELoss",
    "RAFTLoss",
    "RPCLoss",
    "ReSSLLoss",
    "SIGRegLoss",
    "SupConLoss",
    "SwAVLoss",
    "TiCoLoss",
    "VCRegLoss",
    "VICRegLoss",
    "VISRegLoss",
    "WMSELoss",
    "concentration",
    "cross_entropy",
    "random_directions",
    "sinkhorn",
    "spherical_kmeans",
    "whiten",
]
