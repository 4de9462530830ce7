"""SIGReg loss of LeJEPA: random projections of the embeddings follow the standard normal distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lib.distributed import all_reduce_sum, world_size
from ssl_lib.losses._common import check_positive, without_autocast
from ssl_lib.losses.directions import check_views, seeded_directions, slices

__all__ = ["SIGRegLoss"]

_KNOTS, _LIMIT = 17, 3.0


class SIGRegLoss(nn.Module):
    """Mean over random directions of the Epps-Pulley statistic of the projected embeddings.

    Source: Balestriero and LeCun 2025 (arXiv:2511.08544, section 4); rbalestr-lab/lejepa,
    lejepa/multivariate/slicing.py and lejepa/univariate/epps_pulley.py. The statistic is the number of images of all
    processes times the integral of |f(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2), where f is the mean of exp(i t x) over the
    images: by the trapezoidal rule on 17 points in [0, 3], doubled for negative t.

    Args:
        num_slices: Number of directions that are drawn if none are passed, >= 1.

    Raises:
        ValueError: The number is not positive.
    """

    def __init__(self, num_slices: int = 256) -> None:
        super().__init__()
        check_positive("num_slices", num_slices)
        self.num_slices, self._calls = num_slices, 0

    def forward(self, embeddings: Tensor, directions: Tensor | None = None) -> Tensor:
        """Computes the statistic of each view and averages it.

        Args:
            embeddings: (N, D), or (V, N, D) for several views.
            directions: (D, K), one per column, the same in all processes; see `random_directions`. None draws new ones
                at every call, seeded by the number of earlier calls in training mode.

        Returns:
            Scalar >= 0, over the images of all processes.

        Raises:
            ValueError: The embeddings are not floats of such a shape, or the directions do not fit them.
        """
        with without_autocast(embeddings):
            z = check_views("embeddings", embeddings)
            if directions is None:
                directions = seeded_directions(self.num_slices, z.shape[-1], self._calls, z)
                self._calls += self.training
            t = torch.linspace(0, _LIMIT, _KNOTS, dtype=z.dtype, device=z.device)
            normal = torch.exp(-t.square() / 2)
            weights = torch.full_like(t, 2 * _LIMIT / (_KNOTS - 1))
            weights[[0, -1]] /= 2
            angles = slices(z, directions)[..., None] * t  # (..., N, K, 17)
            count = world_size() * z.shape[-2]
            cosine, sine = all_reduce_sum(torch.stack((angles.cos().sum(-3), angles.sin().sum(-3)))) / count
            error: Tensor = (cosine - normal).square() + sine.square()
            return count * (error @ (weights * normal)).mean()
