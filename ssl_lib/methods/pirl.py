"""PIRL: the embeddings of an image and of its shuffled tiles agree with the image's row of a memory bank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.heads import mlp
from ssl_lib.losses import PIRLLoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import image_indices, view_pair
from ssl_lib.views.puzzle import tiles

_TILE = 64 / 85  # of a cell


@METHODS.register("pirl")
class PIRL(Method):
    """PIRL (Misra and van der Maaten 2020, arXiv:1912.01991; facebookresearch/vissl, configs/config/pretrain/pirl).

    The first view is the image, the second is cut into 3 x 3 tiles. The backbone sees each tile alone; the tiles'
    embeddings are concatenated in random order. In contrast to the reference, all images of an update have the same
    negatives, an image is not its own negative, and the tiles of an image share one color change and flip.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        num_images: Number of training images; `build` takes it from the data.
        hidden_dim: Width of a hidden layer in the heads of images and tiles; None makes them linear.
        out_dim: Width of the embeddings.
        num_negatives: Number of negatives per update, at least 1; all other images if there are no more.
        temperature: Divides the similarities, > 0; 0.1 with a hidden layer and cross-entropy in VISSL.
        bank_momentum: Weight of a bank's old row in its update, in [0, 1).
        weight: Weight of the tiles in the loss, in [0, 1]; the image has the rest.
        kind: "nce" for noise-contrastive estimation, "cross_entropy" for the softmax over image and negatives.
        fill_bank: Whether the bank starts with the embeddings of the images without augmentation, for short runs with
            cross-entropy. Otherwise its rows are random, as in the reference, and the first epoch learns little.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_images: int,
        hidden_dim: int | None = None,
        out_dim: int = 128,
        num_negatives: int = 32000,
        temperature: float = 0.07,
        bank_momentum: float = 0.5,
        weight: float = 0.5,
        kind: Literal["nce", "cross_entropy"] = "nce",
        fill_bank: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.fill_bank = backbone, fill_bank
        dims = [feature_dim(backbone), *([] if hidden_dim is None else [hidden_dim]), out_dim]
        self.projector, self.tile_projector = mlp(dims, norm=False), mlp(dims, norm=False)
        self.joint = nn.Linear(9 * out_dim, out_dim)
        self.loss = PIRLLoss(num_images, out_dim, temperature, bank_momentum, weight, num_negatives, kind=kind)

    def before_epoch(self, progress: Progress, encode: Callable[[nn.Module], Tensor]) -> None:
        """Fills the bank before the first update, if asked to."""
        if self.fill_bank and progress.step == 0:
            self.loss.bank.fill(encode(nn.Sequential(self.backbone, self.projector)))

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Identifies the bank's row of each image by the image and by its tiles."""
        x_image, x_tiles = view_pair(views)
        cut = tiles(x_tiles, views.random, size=_TILE, normalize=False)  # (N, 9, C, s, s)
        order = views.random.per_image(9).argsort(1).to(cut.device)
        features = self.backbone(x_image)
        z_image = self.projector(features)
        parts = self.tile_projector(self.backbone(cut.flatten(0, 1))).unflatten(0, (-1, 9))
        z_tiles = self.joint(parts.take_along_dim(order[..., None], 1).flatten(1))
        loss = self.loss(z_image, z_tiles, image_indices(views), self.loss.draw(views.random))
        return StepOutput(loss, {}, z_image.detach(), z_tiles.detach(), features=features)

    def chance_loss(self, num_images: int) -> float:
        """Equal similarities: ln(K + 1) of K negatives, and K ln((K + 1) / K) more for NCE."""
        return self.loss.chance
