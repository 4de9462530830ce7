"""Negative cosine similarity loss of BYOL and SimSiam."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_lib.losses._common import check_pair, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["NegativeCosineLoss"]


class NegativeCosineLoss(nn.Module):
    """Negative cosine similarity between a prediction and a detached target.

    Source: SimSiam (Chen and He 2020, arXiv:2011.10566, equation 1). BYOL's regression loss (Grill et al. 2020,
    arXiv:2006.07733, equation 2) equals 2 + 2 times this loss.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Computes the loss row by row.

        Args:
            prediction: (N, D); rows need not be normalized.
            target: (N, D); rows need not be normalized. Gets no gradient.

        Returns:
            Scalar in [-1, 1], averaged over the batch. The cosine of a zero row is 0.

        Raises:
            ValueError: The tensors are not float matrices of the same shape, or are empty.
        """
        check_pair(prediction, target, names=("prediction", "target"), min_batch=1)
        with without_autocast(prediction):
            prediction, target = upcast(prediction, target.detach())
            return -(unit_rows(prediction) * unit_rows(target)).sum(-1).mean()
