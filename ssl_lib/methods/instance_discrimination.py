"""Instance discrimination (NPID): every image is its own class, represented by a row of a memory bank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import PIRLLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import image_indices


@METHODS.register("instance_discrimination")
class InstanceDiscrimination(Method):
    """NPID (Wu et al. 2018, arXiv:1805.01978; zhirongw/lemniscate.pytorch, main.py and lib/NCEAverage.py).

    One view of each image is compared with the image's row in a memory bank and with the rows of other images. The loss
    is PIRL's without its second term. In contrast to the reference, all images of an update have the same negatives, an
    image is not its own negative, and the bank starts with unit rows, as in VISSL (losses/nce_loss.py). The proximal
    regularization of the paper (section 3.3) is in neither code.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        num_images: Number of training images; `build` takes it from the data.
        out_dim: Width of the embeddings.
        num_negatives: Number of negatives per update, at least 1; all other images if there are no more.
        temperature: Divides the similarities, > 0.
        bank_momentum: Weight of a bank's old row in its update, in [0, 1).
        kind: "nce" for noise-contrastive estimation, "cross_entropy" for the softmax over image and negatives.
        fill_bank: Whether the bank starts with the embeddings of the images without augmentation, for short runs with
            cross-entropy. Otherwise its rows are random, as in the reference, and the first epoch learns little.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_images: int,
        out_dim: int = 128,
        num_negatives: int = 4096,
        temperature: float = 0.07,
        bank_momentum: float = 0.5,
        kind: Literal["nce", "cross_entropy"] = "nce",
        fill_bank: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.fill_bank = backbone, fill_bank
        self.projector = mlp([feature_dim(backbone), out_dim])
        self.loss = PIRLLoss(num_images, out_dim, temperature, bank_momentum, 0.0, num_negatives, kind=kind)

    def before_epoch(self, progress: Progress, encode: Callable[[nn.Module], Tensor]) -> None:
        """Fills the bank before the first update, if asked to."""
        if self.fill_bank and progress.step == 0:
            self.loss.bank.fill(encode(nn.Sequential(self.backbone, self.projector)))

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Identifies the bank's row of each image by the image's first view."""
        features = self.backbone(views.large[0])
        z = self.projector(features)
        loss = self.loss(z, None, image_indices(views), self.loss.draw(views.random))
        return StepOutput(loss, {}, z.detach(), features=features)

    def chance_loss(self, num_images: int) -> float:
        """Equal similarities: ln(K + 1) of K negatives, and K ln((K + 1) / K) more for NCE."""
        return self.loss.chance

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Applies weight decay to all parameters, biases and norm layers included."""
        return [group | {"weight_decay": weight_decay} for group in super().param_groups(weight_decay)]
