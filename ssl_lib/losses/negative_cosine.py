"""The negative cosine similarity of BYOL and SimSiam."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_lib.losses._common import check_pair, unit_rows, upcast, without_autocast

__all__ = ["NegativeCosineLoss"]


class NegativeCosineLoss(nn.Module):
    """Negative cosine similarity between a prediction and a target that gets no gradient.

    Source: SimSiam (Chen and He 2020, arXiv:2011.10566, equation 1); BYOL's regression loss (Grill et al. 2020,
    arXiv:2006.07733, equation 2) is 2 plus twice this.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compares row by row.

        Args:
            prediction: (N, D), of any length.
            target: (N, D), of any length; detached here.

        Returns:
            Scalar in [-1, 1], the mean over the batch. A row of zeros counts as cosine 0.

        Raises:
            ValueError: The tensors are not float matrices of one shape, or are empty.
        """
        check_pair(prediction, target, names=("prediction", "target"), min_batch=1)
        with without_autocast(prediction):
            prediction, target = upcast(prediction, target.detach())
            return -(unit_rows(prediction) * unit_rows(target)).sum(-1).mean()
