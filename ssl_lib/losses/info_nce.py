"""InfoNCE loss of MoCo: identifies the key of an image among other keys or a queue of earlier ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lib.distributed import gather, rank
from ssl_lib.losses._common import check_pair, check_positive, check_weight, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["InfoNCELoss"]


class InfoNCELoss(nn.Module):
    """Cross-entropy of a query's cosine similarities with its own key and the negatives, divided by a temperature.

    Sources: He et al. 2019 (arXiv:1911.05722, equation 1); facebookresearch/moco, moco/builder.py. With `epsilon`, the
    implicit feature modification of Robinson et al. 2021 (arXiv:2106.11230, section 4); joshr17/IFM,
    moco-master/moco/adv_builder.py: a second cross-entropy, in which the positive's similarity is `epsilon` smaller
    and the negatives' are `epsilon` larger, is averaged in with weight `alpha`: (CE + alpha CE') / (1 + alpha).

    Args:
        temperature: Divides the similarities, > 0.
        epsilon: Change of the similarities in the second cross-entropy, >= 0; 0 leaves it out.
        alpha: Weight of the second cross-entropy, >= 0.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, temperature: float = 0.2, epsilon: float = 0.0, alpha: float = 1.0) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        check_weight("epsilon", epsilon)
        check_weight("alpha", alpha)
        self.temperature, self.epsilon, self.alpha = temperature, epsilon, alpha

    def forward(self, query: Tensor, key: Tensor, queue: Tensor | None = None) -> Tensor:
        """Computes the loss of queries and keys (N, D), row i of both from image i; rows need not be normalized.

        Args:
            query: Embeddings of one view.
            key: Embeddings of the other view. Nothing is detached here: a teacher's keys have no gradient.
            queue: Negatives (K, D) of unit length; None takes the other keys of all processes.

        Returns:
            Scalar >= 0, averaged over this process's queries. Chance level is the log of 1 plus the number of
            negatives.

        Raises:
            ValueError: Queries and keys are not float matrices of the same shape, or there are no negatives.
        """
        check_pair(query, key, ("query", "key"), min_batch=2 if queue is None else 1)
        with without_autocast(query):
            query, key = map(unit_rows, upcast(query, key))
            if queue is None:
                similarities = query @ gather(key).T
                positives = rank() * len(query) + torch.arange(len(query), device=query.device)
            else:
                own = (query * key).sum(1, keepdim=True)
                similarities = torch.cat((own, query @ queue.to(query).T), 1)
                positives = torch.zeros(len(query), dtype=torch.int64, device=query.device)
            loss = F.cross_entropy(similarities / self.temperature, positives)
            if self.epsilon == 0:
                return loss
            shift = torch.full_like(similarities, self.epsilon).scatter_(1, positives[:, None], -self.epsilon)
            harder = F.cross_entropy((similarities + shift) / self.temperature, positives)
            return (loss + self.alpha * harder) / (1 + self.alpha)
