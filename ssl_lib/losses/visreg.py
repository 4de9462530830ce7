"""VISReg loss: mean, scale and shape of the embeddings' distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_lib.distributed import gather, world_size
from ssl_lib.losses._common import check_positive, without_autocast
from ssl_lib.losses.directions import check_views, seeded_directions, slices

__all__ = ["VISRegLoss"]

_EPS = 1e-6


class VISRegLoss(nn.Module):
    """Squared means, squared distance of the standard deviations from 1, and distance of the shape from the normal one.

    Source: Wu et al. 2026 (arXiv:2606.02572); HaiyuWu/visreg, visreg/losses/visreg.py. The shape term standardizes the
    embeddings, projects them on random directions, sorts every projection over the images of all processes and
    compares the i-th of M values with the normal quantile of i / (M + 1). Standard deviations are biased, plus 1e-6;
    the standardization does not pass a gradient to them.

    Args:
        num_directions: Number of directions that are drawn if none are passed, >= 1.

    Raises:
        ValueError: The number is not positive.
    """

    def __init__(self, num_directions: int = 256) -> None:
        super().__init__()
        check_positive("num_directions", num_directions)
        self.num_directions, self._calls = num_directions, 0

    def forward(self, z: Tensor, directions: Tensor | None = None) -> Tensor:
        """Adds the three terms of each view and averages them.

        Args:
            z: Embeddings (V, N, D), or (N, D) for one view.
            directions: (D, K), one per column, the same in all processes; see `random_directions`. None draws new ones
                at every call, seeded by the number of earlier calls in training mode.

        Returns:
            Scalar >= 0, over the images of all processes.

        Raises:
            ValueError: The embeddings are not floats of such a shape, or the directions do not fit them.
        """
        with without_autocast(z):
            z = check_views("z", z, min_rows=1 if world_size() > 1 else 2)
            if directions is None:
                directions = seeded_directions(self.num_directions, z.shape[-1], self._calls, z)
                self._calls += self.training
            rows = gather(z.movedim(-2, 0)).movedim(0, -2)  # (..., M, D)
            mean = rows.mean(-2, keepdim=True)
            centered = rows - mean
            std: Tensor = torch.linalg.vector_norm(centered, dim=-2, keepdim=True) / math.sqrt(rows.shape[-2]) + _EPS
            sorted_slices = slices(centered / std.detach(), directions).sort(-2).values
            places = torch.arange(1, rows.shape[-2] + 1, dtype=z.dtype, device=z.device) / (rows.shape[-2] + 1)
            shape: Tensor = (sorted_slices - torch.special.ndtri(places)[:, None]).square().mean()
            return mean.square().mean() + (std - 1).square().mean() + shape
