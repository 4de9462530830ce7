"""MMCR loss: the nuclear norm of the images' mean embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lib.distributed import gather
from ssl_lib.losses._common import check_weight, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["MMCRLoss"]


class MMCRLoss(nn.Module):
    """Minus the nuclear norm of the matrix of the images' centroids: views agree, and images differ.

    Source: Yerxa et al. 2023 (arXiv:2303.03307); ThomasYerxa/mmcr, mmcr/imagenet/loss_mmcr.py and,
    with a teacher, loss_mmcr_momentum.py. The centroid of an image is the mean of its views' embeddings, scaled to unit
    length. The matrix holds the images of all processes.

    Args:
        local_weight: Weight of the mean nuclear norm of the images' own views, >= 0.

    Raises:
        ValueError: The weight is out of range.
    """

    def __init__(self, local_weight: float = 0.0) -> None:
        super().__init__()
        check_weight("local_weight", local_weight)
        self.local_weight = local_weight

    def forward(self, z: Tensor, momentum: Tensor | None = None) -> Tensor:
        """Computes the loss of N images with V views each; embeddings need not be normalized.

        Args:
            z: Embeddings (N, V, D).
            momentum: The teacher's embeddings (N, V', D) of the same images; a centroid is then the mean of the
                student's and the teacher's.

        Returns:
            Scalar, for the M images of all processes at least -sqrt(M min(M, D)); not divided by M.

        Raises:
            ValueError: A tensor is not a float tensor of three dimensions, or their N or D differ.
        """
        for name, x in (("z", z), ("momentum", z if momentum is None else momentum)):
            if x.ndim != 3 or not x.is_floating_point() or not x.numel() or x.shape[::2] != z.shape[::2]:
                raise ValueError(
                    f"{name} must be a float tensor (N, V, D), with the N and D of z {tuple(z.shape)}; "
                    f"got {x.dtype} of shape {tuple(x.shape)}"
                )
        with without_autocast(z):
            views = [unit_rows(x) for x in upcast(z, *([] if momentum is None else [momentum]))]
            centroids = torch.stack([x.mean(1) for x in views]).mean(0)
            loss = -_nuclear_norm(gather(centroids))
            return loss + self.local_weight * _nuclear_norm(views[0]) / len(z) if self.local_weight else loss


def _nuclear_norm(x: Tensor) -> Tensor:
    """Sum of the singular values of matrices (..., N, D); NaN if a value is NaN or infinite, which LAPACK refuses.

    Singular values that are zero but for rounding are left out, because their gradient has no defined direction.
    """
    finite = x.isfinite().all()
    values: Tensor = torch.linalg.svdvals(torch.where(finite, x, 0.0))
    rounding = 16 * torch.finfo(x.dtype).eps * values.detach().amax(-1, keepdim=True)
    return values.masked_fill(values <= rounding, 0.0).sum() + torch.where(finite, 0.0, torch.nan)
