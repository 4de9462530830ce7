"""W-MSE loss: distance of embeddings that were whitened over the batch."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

from ssl_lib.distributed import gather, world_size
from ssl_lib.losses._common import check_pair, check_positive, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["WMSELoss", "whiten"]

_RIDGE = 1e-3
"""Fraction of the mean variance that is added to the variances of a group whose covariance is singular."""


class WMSELoss(nn.Module):
    """Distance between whitened embeddings of the same image, averaged over all pairs of views.

    Source: Ermolov et al. 2021 (arXiv:2007.06346); htdt/self-supervised, methods/w_mse.py. The images
    of all processes are divided at random into groups, and each view is whitened in each group by itself.

    Args:
        whitening_size: Number of images per group, larger than the width of the embeddings; a smaller batch is one
            group. None is one group of all images.
        iterations: Number of random divisions into groups that are averaged, >= 1.
        eps: Weight of the identity in the covariance, in [0, 1); see `whiten`.
        normalize: Whether the distance is 2 - 2 cos, or else the mean squared error.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, whitening_size: int | None = None, iterations: int = 1, eps: float = 0.0, normalize: bool = True
    ) -> None:
        super().__init__()
        check_positive("whitening_size", 1 if whitening_size is None else whitening_size)
        check_positive("iterations", iterations)
        check_eps(eps)
        self.whitening_size, self.iterations, self.eps, self.normalize = whitening_size, iterations, eps, normalize

    def forward(self, *views: Tensor, permutations: Tensor | None = None) -> Tensor:
        """Whitens and compares the embeddings (N, D) of two or more views, row i of each from image i.

        Args:
            *views: Embeddings of each view.
            permutations: Orders (iterations, M) of the M images of all processes, which are cut into groups. None draws
                them from torch's default generator, in one process only.

        Returns:
            Scalar >= 0, over the images of all processes; in [0, 4] if `normalize`. Chance level is then 2.

        Raises:
            ValueError: There are fewer than two views, they are not float matrices of the same shape, the groups do not
                divide the batch, or there are no permutations in several processes.
        """
        if len(views) < 2:
            raise ValueError(f"W-MSE compares at least 2 views, got {len(views)}")
        for view in views[1:]:
            check_pair(views[0], view, ("the first view", "another view"))
        with without_autocast(views[0]):
            rows = gather(torch.stack(upcast(*views), 1))  # (world_size * N, V, D)
            rows = rows.unflatten(0, (world_size(), -1)).transpose(0, 1).flatten(0, 1)  # in the joined batch's order
            size = min(self.whitening_size or len(rows), len(rows))
            if len(rows) % size:
                raise ValueError(f"whitening_size must divide the batch of {len(rows)} images, got {size}")
            losses = []
            for order in self._orders(len(rows), size, permutations):
                groups = rows[order.to(rows.device)].unflatten(0, (-1, size)).movedim(2, 0)  # (V, groups, size, D)
                whitened = whiten(groups, self.eps).flatten(1, 2)
                losses += [self._distance(a, b) for a, b in combinations(whitened, 2)]
            return torch.stack(losses).mean()

    def _orders(self, count: int, size: int, permutations: Tensor | None) -> Tensor:
        if size == count:
            return torch.arange(count)[None]
        if permutations is None:
            if world_size() > 1:
                raise ValueError("in several processes, pass the same permutations to W-MSE in all of them")
            return torch.stack([torch.randperm(count) for _ in range(self.iterations)])
        if permutations.shape != (self.iterations, count):
            raise ValueError(f"permutations must be {(self.iterations, count)}, got {tuple(permutations.shape)}")
        return permutations

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        if self.normalize:
            return 2 - 2 * (unit_rows(a) * unit_rows(b)).sum(1).mean()
        return (a - b).square().mean()


def whiten(x: Tensor, eps: float = 0.0) -> Tensor:
    """Centers and decorrelates the rows of x by the inverse of the covariance's Cholesky factor.

    The covariance C is unbiased, and the factor L is that of (1 - eps) C + eps I. If it is singular, because there are
    not more rows than columns or the rows are alike, a small multiple of the mean variance is added to its diagonal.

    Args:
        x: Floats (..., N, D); each (N, D) is whitened by itself.
        eps: Weight of the identity, in [0, 1).

    Returns:
        (..., N, D), in at least float32. With eps 0 and more than D different rows, the covariance is the identity.

    Raises:
        ValueError: `eps` is out of range, or there are fewer than two rows.
    """
    check_eps(eps)
    if x.ndim < 2 or x.shape[-2] < 2:
        raise ValueError(f"whitening needs at least 2 rows, got x of shape {tuple(x.shape)}")
    with without_autocast(x):
        (x,) = upcast(x)
        x = x - x.mean(-2, keepdim=True)
        if eps == 0:  # the result does not depend on the scale
            scale = x.detach().abs().amax((-2, -1), keepdim=True)
            x = x / scale.masked_fill(scale < torch.finfo(x.dtype).tiny, torch.inf)
        covariance = x.mT @ x / (x.shape[-2] - 1)
        identity = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        covariance = (1 - eps) * covariance + eps * identity
        variance = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        ridge = torch.where(variance > 0, _RIDGE * variance, 1.0)
        singular = _singular(covariance) | (eps == 0 and x.shape[-2] <= x.shape[-1])
        covariance = covariance + torch.where(singular, ridge, 0.0) * identity
        factor, _ = torch.linalg.cholesky_ex(covariance)
        whitened: Tensor = torch.linalg.solve_triangular(factor, x.mT, upper=False)
        return whitened.mT


@torch.no_grad()
def _singular(covariance: Tensor) -> Tensor:
    """Whether each covariance (..., D, D) is singular in its precision: (..., 1, 1)."""
    factor, info = torch.linalg.cholesky_ex(covariance)
    smallest = factor.diagonal(dim1=-2, dim2=-1).square().amin(-1)
    largest = covariance.diagonal(dim1=-2, dim2=-1).amax(-1)
    rounding = covariance.shape[-1] * torch.finfo(covariance.dtype).eps * largest
    singular: Tensor = (info > 0) | (smallest <= rounding)
    return singular[..., None, None]


def check_eps(eps: float) -> None:
    """Raises ValueError unless the weight of the identity is in [0, 1)."""
    if not 0.0 <= eps < 1.0:
        raise ValueError(f"eps must be in [0, 1), got {eps}")
