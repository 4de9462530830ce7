"""SwAV loss: predicts the cluster assignment of one view from the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lib.losses._common import check_positive, upcast, without_autocast
from ssl_lib.losses.sinkhorn import sinkhorn

__all__ = ["SwAVLoss"]


class SwAVLoss(nn.Module):
    """Cross-entropy between the Sinkhorn assignments of the first two views and the scores of every other view.

    Source: Caron et al. 2020 (arXiv:2006.09882, equations 1 to 4); facebookresearch/swav, main_swav.py. The assignments
    are computed over the images of all processes.

    Args:
        temperature: Divides the scores in the softmax, > 0.
        epsilon: Temperature of `sinkhorn`, > 0.
        iterations: Rounds of `sinkhorn`, >= 1.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        check_positive("epsilon", epsilon)
        check_positive("iterations", iterations)
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations

    def forward(self, scores: Sequence[Tensor], queue_scores: Sequence[Tensor] | None = None) -> Tensor:
        """Compares the assignments of views 0 and 1 with the scores of all other views.

        Args:
            scores: Similarities (N, K) of each view with the prototypes; the two large views first.
            queue_scores: Scores (M, K) of earlier embeddings for views 0 and 1, which take part in their assignment.
                Of a queue that all processes share, each process passes its part.

        Returns:
            Scalar >= 0, averaged over the batch, the pairs of views and the two assigned views.

        Raises:
            ValueError: There are fewer than two views, or their shapes differ.
        """
        if len(scores) < 2 or any(x.shape != scores[0].shape or x.ndim != 2 for x in scores):
            raise ValueError(f"scores must be (N, K) of at least 2 views, got {[tuple(x.shape) for x in scores]}")
        with without_autocast(scores[0]):
            logs = [F.log_softmax(x / self.temperature, 1) for x in upcast(*scores)]
            losses = []
            for view in range(2):
                own, others = scores[view].detach(), logs[:view] + logs[view + 1 :]
                queued = own[:0] if queue_scores is None else queue_scores[view]
                codes = sinkhorn(torch.cat((queued, own)), self.epsilon, self.iterations)[len(queued) :]
                losses += [-(codes * other).sum(1).mean() for other in others]
            return torch.stack(losses).mean()
