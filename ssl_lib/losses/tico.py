"""TiCo loss: agreement of two views, and a penalty by a moving second moment of the embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_lib.distributed import all_reduce_sum, world_size
from ssl_lib.losses._common import check_pair, check_positive, check_weight, upcast, without_autocast
from ssl_lib.memory import Memory
from ssl_lib.utils.rows import unit_rows

__all__ = ["TiCoLoss"]


class TiCoLoss(Memory):
    """1 - mean of z_a . z_b + rho times the mean of z_a^T C z_a, for embeddings of unit length.

    Source: Zhu et al. 2022 (arXiv:2206.10698; no official code); lightly, loss/tico_loss.py. C is a moving
    average of the second moment of `z_a`, which the present batch enters first; it gets no gradient. In training mode
    each call collects the batch's second moment, and `commit` moves C by it, once per optimizer update.

    Args:
        dim: Width D of the embeddings.
        beta: Momentum of C, in [0, 1].
        rho: Weight of the penalty, >= 0.

    Attributes:
        covariance: C, (D, D), zero at first; over micro-batches and processes.

    Raises:
        ValueError: An argument is out of range.
    """

    covariance: Tensor

    def __init__(self, dim: int, beta: float = 0.9, rho: float = 8.0) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_weight("rho", rho)
        if not 0.0 <= beta <= 1.0:
            raise ValueError(f"beta must be in [0, 1], got {beta}")
        self.beta, self.rho = beta, rho
        self.register_buffer("covariance", torch.zeros(dim, dim))

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Computes the loss of the student's and the teacher's embeddings (N, D); rows need not be normalized.

        Returns:
            Scalar in [0, 2 + rho], averaged over this process's images. Embeddings that are independent and spread
            evenly over all directions have 1 + rho / D.

        Raises:
            ValueError: The views are not float matrices of the same shape with D columns.
        """
        check_pair(z_a, z_b, min_batch=1)
        if z_a.shape[1] != len(self.covariance):
            raise ValueError(f"the embeddings must have {len(self.covariance)} columns, got {z_a.shape[1]}")
        with without_autocast(z_a):
            z_a, z_b = map(unit_rows, upcast(z_a, z_b))
            with torch.no_grad():
                moment = z_a.T @ z_a
                self.collect(moment, z_a.new_full((1,), len(z_a)))
                batch = all_reduce_sum(moment) / (world_size() * len(z_a))
                covariance = torch.lerp(batch, self.covariance.to(batch), self.beta)
            agreement = (z_a * z_b).sum(1).mean()
            return 1 - agreement + self.rho * (z_a @ covariance * z_a).sum(1).mean()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Adds the second moments and counts of the micro-batches and processes, in place of gathering embeddings."""
        return all_reduce_sum(torch.stack(tuple(parts)).sum(0))

    def update(self, *rows: Tensor) -> None:
        """Moves C toward the second moment of the update, given the sum (D, D) and the number of images (1,)."""
        total, count = rows
        self.covariance.lerp_((total / count).to(self.covariance), 1.0 - self.beta)
