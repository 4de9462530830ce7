"""Self-supervised learning methods, one file per method."""

from ssl_lib.methods.barlow_twins import BarlowTwins
from ssl_lib.methods.base import Method
from ssl_lib.methods.byol import BYOL
from ssl_lib.methods.deepcluster_v2 import DeepClusterV2
from ssl_lib.methods.dino import DINO
from ssl_lib.methods.jigsaw import Jigsaw
from ssl_lib.methods.moco_v2 import MoCoV2
from ssl_lib.methods.rotation import Rotation
from ssl_lib.methods.simclr import SimCLR
from ssl_lib.methods.simsiam import SimSiam
from ssl_lib.methods.swav import SwAV
from ssl_lib.methods.vicreg import VICReg

__all__ = [
    "BYOL",
    "DINO",
    "BarlowTwins",
    "DeepClusterV2",
    "Jigsaw",
    "Method",
    "MoCoV2",
    "Rotation",
    "SimCLR",
    "SimSiam",
    "SwAV",
    "VICReg",
]
