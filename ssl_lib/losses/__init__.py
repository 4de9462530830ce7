"""Losses: tensors in, a scalar out; in float32 or better under any autocast, and over the batch of all processes."""

from ssl_lib.losses.barlow_twins import BarlowTwinsLoss
from ssl_lib.losses.dino import DINOLoss
from ssl_lib.losses.negative_cosine import NegativeCosineLoss
from ssl_lib.losses.ntxent import NTXentLoss
from ssl_lib.losses.vicreg import VICRegLoss

__all__ = ["BarlowTwinsLoss", "DINOLoss", "NTXentLoss", "NegativeCosineLoss", "VICRegLoss"]
