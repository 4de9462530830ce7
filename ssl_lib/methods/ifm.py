"""IFM: MoCo v2 with implicit feature modification, which makes every positive and negative harder."""

from __future__ import annotations

import math

from torch import nn

from ssl_lib.losses import InfoNCELoss
from ssl_lib.methods.moco_v2 import MoCoV2
from ssl_lib.registry import METHODS


@METHODS.register("ifm")
class IFM(MoCoV2):
    """IFM-MoCo v2 (Robinson et al. 2021, arXiv:2106.11230; joshr17/IFM, moco-master/moco/adv_builder.py).

    The loss is the weighted mean of MoCo's cross-entropy and of one with similarities that are `epsilon` smaller for
    the positive and `epsilon` larger for the negatives, before the division by the temperature. As in `MoCoV2`,
    synchronized BatchNorm replaces the shuffling of keys.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layer; None is a linear projector.
        out_dim: Width of the embeddings.
        queue_size: Number of earlier keys, at most the number of images.
        temperature: Softmax temperature, > 0.
        momentum: EMA momentum of the teacher, constant, in [0, 1]; 0.99 in the reference's run on ImageNet-100.
        epsilon: Change of the similarities in the second cross-entropy, >= 0; 0.05 to 0.2 in the reference's runs.
        alpha: Weight of the second cross-entropy, >= 0; the first has weight 1.
    """

    loss: InfoNCELoss

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int | None = 2048,
        out_dim: int = 128,
        queue_size: int = 65536,
        temperature: float = 0.2,
        momentum: float = 0.999,
        epsilon: float = 0.1,
        alpha: float = 1.0,
    ) -> None:
        super().__init__(backbone, hidden_dim=hidden_dim, out_dim=out_dim, queue_size=queue_size, momentum=momentum)
        self.loss = InfoNCELoss(temperature, epsilon, alpha)

    def chance_loss(self, num_images: int) -> float:
        """Equal similarities: the weighted mean of ln(1 + K) and ln(1 + K e^(2 epsilon / T))."""
        plain, gap = super().chance_loss(num_images), 2 * self.loss.epsilon / self.loss.temperature
        harder = gap + math.log(len(self.queue.rows) + math.exp(-gap))
        return (plain + self.loss.alpha * harder) / (1 + self.loss.alpha)
