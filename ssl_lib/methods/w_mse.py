"""W-MSE: distance of whitened embeddings."""

from __future__ import annotations

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.distributed import world_size
from ssl_lib.heads import mlp
from ssl_lib.losses import WMSELoss
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import multi_crop


@METHODS.register("w_mse")
class WMSE(Method):
    """W-MSE (Ermolov et al. 2021, arXiv:2007.06346; htdt/self-supervised, methods/w_mse.py, model.py and cfg.py).

    Two or more views share one forward pass. The groups are drawn from the images of all processes, the same in all of
    them; the reference draws them in each GPU. A batch of at most `out_dim` images is no error, as in the reference:
    its covariance is made invertible, see `whiten`.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        hidden_dim: Width of the projector's hidden layer.
        out_dim: Width of the embeddings.
        whitening_size: Number of images per group that is whitened, more than `out_dim`; twice as many in the
            reference. It divides the batch, or a smaller batch is one group.
        iterations: Number of random divisions into groups per update, >= 1; 4 in the reference for STL-10.
        eps: Weight of the identity in the covariance, in [0, 1).
        normalize: Whether the distance is 2 - 2 cos, or else the mean squared error.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_dim: int = 1024,
        out_dim: int = 64,
        whitening_size: int = 128,
        iterations: int = 1,
        eps: float = 0.0,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if whitening_size <= out_dim:
            raise ValueError(
                f"whitening_size must be more than out_dim, {out_dim}, or the covariance is singular; got "
                f"{whitening_size}"
            )
        self.backbone = backbone
        self.projector = mlp([feature_dim(backbone), hidden_dim, out_dim])
        self.loss = WMSELoss(whitening_size, iterations, eps, normalize)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Whitens the embeddings of each view in random groups and compares all pairs of views."""
        features = multi_crop(self.backbone, views)
        z = self.projector(features).chunk(len(views.large + views.small))
        numbers = views.random.shared(self.loss.iterations, len(z[0]) * world_size())
        loss = self.loss(*z, permutations=numbers.argsort(1))
        return StepOutput(loss, {}, z[0].detach(), z[1].detach(), features=features[: len(z[0])])

    def chance_loss(self, num_images: int) -> float | None:
        """Independent directions: 2; None for the mean squared error."""
        return 2.0 if self.loss.normalize else None
