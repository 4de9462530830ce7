"""ReSSL: relational self-supervised learning with a weakly augmented view for the teacher."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from ssl_lib.losses import ReSSLLoss
from ssl_lib.methods.moco_v2 import MoCoV2
from ssl_lib.optim import param_groups
from ssl_lib.registry import METHODS


@METHODS.register("ressl")
class ReSSL(MoCoV2):
    """ReSSL (Zheng et al. 2021, arXiv:2107.09282; KyleZheng1997/ReSSL, ressl.py and network/ressl.py).

    MoCo v2 with soft targets: the student's similarities with the queue follow the teacher's. The student gets the
    first view. The teacher gets the second view, which must be weakly augmented: the preset `ressl` only crops and
    flips it. As in `MoCoV2`, synchronized BatchNorm replaces the shuffling of keys.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layer; None is a linear projector.
        out_dim: Width of the embeddings.
        queue_size: Number of earlier keys, at most the number of images.
        student_temperature: Softmax temperature of the student, > 0.
        teacher_temperature: Softmax temperature of the teacher, > 0; less than the student's.
        momentum: EMA momentum of the teacher, in [0, 1].
        final_momentum: EMA momentum at the end of the run, reached by a cosine; None keeps it constant.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int | None = 4096,
        out_dim: int = 512,
        queue_size: int = 131072,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        momentum: float = 0.999,
        final_momentum: float | None = None,
    ) -> None:
        super().__init__(backbone, hidden_dim=hidden_dim, out_dim=out_dim, queue_size=queue_size, momentum=momentum)
        self.final_momentum = momentum if final_momentum is None else final_momentum
        self.loss = ReSSLLoss(student_temperature, teacher_temperature)

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Applies no weight decay to biases and norm layers, unlike `MoCoV2`."""
        return param_groups(self, weight_decay)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution of the student over the queue: ln K."""
        return math.log(len(self.queue.rows))
