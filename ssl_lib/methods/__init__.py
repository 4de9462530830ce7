"""Self-supervised learning methods, one file per method."""

from ssl_lib.methods.barlow_twins import BarlowTwins
from ssl_lib.methods.base import Method
from ssl_lib.methods.byol import BYOL
from ssl_lib.methods.dino import DINO
from ssl_lib.methods.simclr import SimCLR
from ssl_lib.methods.simsiam import SimSiam
from ssl_lib.methods.vicreg import VICReg

__all__ = ["BYOL", "DINO", "BarlowTwins", "Method", "SimCLR", "SimSiam", "VICReg"]
