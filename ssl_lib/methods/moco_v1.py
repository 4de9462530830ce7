"""MoCo v1: MoCo v2 with a linear projector and a lower temperature."""

from __future__ import annotations

from torch import nn

from ssl_lib.methods.moco_v2 import MoCoV2
from ssl_lib.registry import METHODS


@METHODS.register("moco_v1")
class MoCoV1(MoCoV2):
    """MoCo v1 (He et al. 2019, arXiv:1911.05722; facebookresearch/moco, moco/builder.py without `--mlp`).

    As in `MoCoV2`, synchronized BatchNorm replaces the shuffling of keys.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        out_dim: Width of the embeddings.
        queue_size: Number of earlier keys, at most the number of images.
        temperature: Softmax temperature, > 0.
        momentum: EMA momentum of the teacher, constant, in [0, 1].
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        out_dim: int = 128,
        queue_size: int = 65536,
        temperature: float = 0.07,
        momentum: float = 0.999,
    ) -> None:
        super().__init__(
            backbone,
            hidden_dim=None,
            out_dim=out_dim,
            queue_size=queue_size,
            temperature=temperature,
            momentum=momentum,
        )
