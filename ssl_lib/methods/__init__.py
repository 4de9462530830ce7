"""Self-supervised learning methods, one file per method."""

from ssl_lib.methods.barlow_twins import BarlowTwins
from ssl_lib.methods.base import Method
from ssl_lib.methods.byol import BYOL
from ssl_lib.methods.clusterfit import ClusterFit
from ssl_lib.methods.colorization import Colorization
from ssl_lib.methods.contrastive_clustering import ContrastiveClustering
from ssl_lib.methods.dcl import DCL
from ssl_lib.methods.deepcluster import DeepCluster
from ssl_lib.methods.deepcluster_v2 import DeepClusterV2
from ssl_lib.methods.dino import DINO
from ssl_lib.methods.directclr import DirectCLR
from ssl_lib.methods.ifm import IFM
from ssl_lib.methods.instance_discrimination import InstanceDiscrimination
from ssl_lib.methods.jigsaw import Jigsaw
from ssl_lib.methods.lejepa import LeJEPA
from ssl_lib.methods.mmcr import MMCR
from ssl_lib.methods.moco_v1 import MoCoV1
from ssl_lib.methods.moco_v2 import MoCoV2
from ssl_lib.methods.moco_v3 import MoCoV3
from ssl_lib.methods.nnclr import NNCLR
from ssl_lib.methods.pcl import PCL
from ssl_lib.methods.pirl import PIRL
from ssl_lib.methods.propos import ProPos
from ssl_lib.methods.relative_location import RelativeLocation
from ssl_lib.methods.ressl import ReSSL
from ssl_lib.methods.rotation import Rotation
from ssl_lib.methods.rpc import RPC
from ssl_lib.methods.sela import SeLa
from ssl_lib.methods.simclr import SimCLR
from ssl_lib.methods.simdino import SimDINO
from ssl_lib.methods.simsiam import SimSiam
from ssl_lib.methods.supcon import SupCon
from ssl_lib.methods.swav import SwAV
from ssl_lib.methods.tico import TiCo
from ssl_lib.methods.vcreg import VCReg
from ssl_lib.methods.vicreg import VICReg
from ssl_lib.methods.visreg import VISReg
from ssl_lib.methods.w_mse import WMSE
from ssl_lib.methods.yadim import YADIM

__all__ = [
    "BYOL",
    "DCL",
    "DINO",
    "IFM",
    "MMCR",
    "NNCLR",
    "PCL",
    "PIRL",
    "RPC",
    "WMSE",
    "YADIM",
    "BarlowTwins",
    "ClusterFit",
    "Colorization",
    "ContrastiveClustering",
    "DeepCluster",
    "DeepClusterV2",
    "DirectCLR",
    "InstanceDiscrimination",
    "Jigsaw",
    "LeJEPA",
    "Method",
    "MoCoV1",
    "MoCoV2",
    "MoCoV3",
    "ProPos",
    "ReSSL",
    "RelativeLocation",
    "Rotation",
    "SeLa",
    "SimCLR",
    "SimDINO",
    "SimSiam",
    "SupCon",
    "SwAV",
    "TiCo",
    "VCReg",
    "VICReg",
    "VISReg",
]
