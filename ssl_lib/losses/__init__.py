"""Self-supervised losses: tensors in, scalar out, computed in at least float32 over the global batch."""

from ssl_lib.losses.barlow_twins import BarlowTwinsLoss
from ssl_lib.losses.dino import DINOLoss
from ssl_lib.losses.negative_cosine import NegativeCosineLoss
from ssl_lib.losses.ntxent import NTXentLoss
from ssl_lib.losses.vicreg import VICRegLoss

__all__ = ["BarlowTwinsLoss", "DINOLoss", "NTXentLoss", "NegativeCosineLoss", "VICRegLoss"]
