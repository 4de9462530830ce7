"""Finding images of the same class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lib.distributed import gather_uneven, share
from ssl_lib.evaluation.base import EvaluatedEncoder, Scores
from ssl_lib.evaluation.features import progress
from ssl_lib.evaluation.knn import bank_neighbors
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric

__all__ = ["Retrieval", "average_precision", "recall_at"]


@PROTOCOLS.register("retrieval")
@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Test images look for training images of their class, by the cosine of the features.

    Recall at k as in deep metric learning (Song et al. 2016, arXiv:1511.06452, section 6), see `recall_at`; mean
    average precision over the ranking of all training images, see `average_precision`. A test image whose class no
    training image has cannot find any; it is left out, and counted in the details.

    Attributes:
        k: Images looked at for the recall.
        full_ranking: Whether to rank all training images for every test image, which mean average precision takes: the
            long part with a million of them.
    """

    k: tuple[int, ...] = (1, 5, 10)
    full_ranking: bool = True

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    @property
    def measures(self) -> Sequence[Metric]:
        """Recalls, and mean average precision; the first recall is its own figure."""
        recalls = [Metric(f"recall_{k}", f"recall@{k}", main=k == self.k[0]) for k in self.k]
        return [*recalls, *([Metric("map", "retrieval mAP", main=False)] if self.full_ranking else [])]

    def check(self, bank_labels: Tensor) -> None:
        """Refuses to look at more images than there are."""
        if max(self.k) > len(bank_labels):
            raise ValueError(f"retrieval.k {max(self.k)} is more than the {len(bank_labels)} labeled training images")

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Each process looks at its share of the test images."""
        f = subject.features
        findable = torch.isin(f.query_labels, f.bank_labels)
        queries, labels = share(f.queries[findable]), share(f.query_labels[findable])
        details = {"queries": int(findable.sum()), "without_a_match": int((~findable).sum())}
        if not findable.any():
            return Scores({}, details)
        title = f"{subject.title}: retrieval"
        places = bank_neighbors(queries, f.bank, max(self.k), device=subject.device, title=title)[1]
        found = {f"recall_{k}": recall_at(k, f.bank_labels[places], labels) for k in self.k}
        if self.full_ranking:
            found["map"] = average_precision(queries, labels, f.bank, f.bank_labels, device=subject.device, title=title)
        return Scores({key: gather_uneven(each.double()).mean().item() for key, each in found.items()}, details)


def recall_at(k: int, neighbor_labels: Tensor, labels: Tensor) -> Tensor:
    """Whether one of the k nearest images, at least, is of the query's class.

    Of images equally near at the k-th place, any one may be the k-th.

    Args:
        k: At most K.
        neighbor_labels: (Q, K) classes of the nearest images, the nearest first.
        labels: (Q,) the queries' own.

    Returns:
        (Q,) bool; its mean is recall@k.
    """
    return (neighbor_labels[:, :k] == labels.unsqueeze(1)).any(1)


@torch.no_grad()
def average_precision(
    queries: Tensor,
    query_labels: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    *,
    device: torch.device | None = None,
    title: str = "ranking",
) -> Tensor:
    """The mean, over the bank's images of a query's class, of the precision down to each of them in the ranking.

    Images equally near count as found together, at the last of their places, as in scikit-learn's
    `average_precision_score`, to which this is equal.

    Args:
        queries: (Q, D), of any length.
        query_labels: (Q,).
        bank: (B, D), of any length; kept on the device as a whole, which the similarities are not.
        bank_labels: (B,).
        device: Where to compute; None computes where the queries are.
        title: Of the progress bar.

    Returns:
        (Q,) in [0, 1], float64, on the CPU; 0 for a query whose class the bank does not have.
    """
    device = device or queries.device
    bank, bank_labels = bank.to(device), bank_labels.to(device)
    lengths = torch.linalg.vector_norm(bank, dim=1).clamp_min(1e-12)  # in place of a bank of unit vectors beside it
    ranks = torch.arange(1, len(bank) + 1, device=device)
    parts = list(torch.arange(len(queries)).split(max(1, 2**24 // len(bank))))  # 128 MiB per tensor of places
    found = []
    for part in progress(parts, title, len(parts)):
        cosine = F.normalize(queries[part].to(device), dim=1) @ bank.T / lengths
        cosine, order = cosine.sort(1, descending=True)
        right = bank_labels[order] == query_labels[part].to(device).unsqueeze(1)
        last = torch.searchsorted(-cosine, -cosine, right=True)  # images at least as near: the place of the last equal
        precision = right.cumsum(1).double().div_(ranks).gather(1, last - 1)
        found.append(((precision * right).sum(1) / right.sum(1).clamp_min(1)).cpu())
    return torch.cat([torch.zeros(0, dtype=torch.float64), *found])
