"""Classes found without labels, by k-means."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lib.evaluation.base import EvaluatedEncoder, Scores
from ssl_lib.evaluation.classification import part_rows
from ssl_lib.evaluation.features import progress
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric
from ssl_lib.utils.optional import needs

__all__ = ["Cluster", "cluster_scores", "k_means", "nearest_center"]

_FIRST_CENTERS = 2**14  # images that the first centers are chosen among, or 20 per cluster where that is more


@PROTOCOLS.register("cluster")
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """k-means on the training images; the test images' clusters against their classes. Needs the extra `eval`.

    As unsupervised classification is judged (SCAN, Van Gansbeke et al. 2020, arXiv:2005.12320, section 3): as many
    clusters as classes, on features of unit length, see `cluster_scores`.

    Attributes:
        clusters: None takes as many as there are classes.
        restarts: Times that k-means begins anew; the tightest clusters are taken, without a look at labels.
        max_steps: Steps of k-means per start at most.
        seed: Of the first centers.
    """

    clusters: int | None = None
    restarts: int = 5
    max_steps: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clusters is not None and self.clusters < 2:
            raise ValueError(f"clusters must be at least 2, got {self.clusters}; null takes the number of classes")
        for name in ("restarts", "max_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def measures(self) -> Sequence[Metric]:
        """Accuracy, NMI and ARI."""
        return [
            Metric("cluster_accuracy", "k-means accuracy"),
            Metric("nmi", "k-means NMI", main=False),
            Metric("ari", "k-means ARI", main=False),
        ]

    def check(self, bank_labels: Tensor) -> None:
        """Refuses more clusters than images, and to begin without scikit-learn."""
        with needs("scikit-learn", "the protocol cluster"):
            importlib.import_module("sklearn")
        if (self.clusters or 0) > len(bank_labels):
            raise ValueError(f"cluster.clusters {self.clusters} is more than the {len(bank_labels)} training images")

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Three figures; in the details the number of clusters, how tight they are, and the steps each start took."""
        f = subject.features
        clusters = self.clusters or f.num_classes
        bank, queries = F.normalize(f.bank, dim=1), F.normalize(f.queries, dim=1)
        generator = torch.Generator().manual_seed(self.seed)
        starts = progress(range(self.restarts), f"{subject.title}: k-means", self.restarts)
        runs = [k_means(bank, clusters, generator, self.max_steps, subject.device) for _ in starts]
        centers, inertia, _ = min(runs, key=lambda run: run[1])
        assigned = nearest_center(queries, centers)[0]
        values = cluster_scores(assigned, f.query_labels)
        details = {"clusters": clusters, "inertia": inertia, "inertias": [run[1] for run in runs]}
        return Scores(values, {**details, "steps": [run[2] for run in runs]})


@torch.no_grad()
def k_means(
    x: Tensor, clusters: int, generator: torch.Generator, max_steps: int = 100, device: torch.device | None = None
) -> tuple[Tensor, float, int]:
    """Lloyd's algorithm, from centers chosen by k-means++ (Arthur and Vassilvitskii 2007).

    The first centers are drawn among 16,384 images, or 20 per cluster where that is more. A cluster that loses all its
    images takes the image that is farthest from its own center. It ends when no image changes its cluster.

    Args:
        x: (N, D); it stays where it is, a part at a time goes to the device.
        clusters: At most N.
        generator: On the CPU.
        max_steps: At least 1.
        device: Where to compute; None computes where x is.

    Returns:
        Centers (clusters, D) on the device, the mean squared distance to the nearest one, and the steps taken.

    Raises:
        ValueError: There are more clusters than images.
    """
    if not 1 <= clusters <= len(x):
        raise ValueError(f"clusters must lie in [1, {len(x)}], the number of images; got {clusters}")
    few = torch.randperm(len(x), generator=generator)[: max(_FIRST_CENTERS, 20 * clusters)]
    centers = _first_centers(x[few].to(device or x.device), clusters, generator)
    assigned, squares = nearest_center(x, centers)
    steps, moved = 0, True
    while moved and steps < max_steps:
        before, steps = assigned, steps + 1
        centers = _means(x, assigned, squares, centers)
        assigned, squares = nearest_center(x, centers)
        moved = not torch.equal(assigned, before)
    return centers, squares.double().mean().item(), steps


@torch.no_grad()
def nearest_center(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest of centers (K, D) to each row of x (N, D), and the squared distance to it; both (N,), where x is."""
    own, found = centers.square().sum(1), []
    for part in x.split(part_rows(x, len(centers))):
        some = part.to(centers.device)
        least, place = (own - 2 * some @ centers.T).min(1)
        squares = (least + _lengths(some)).clamp_min(0)
        found.append((place.to(x.device), squares.to(x.device)))
    places, squares = map(torch.cat, zip(*found, strict=True))
    return places, squares


def cluster_scores(clusters: Tensor, labels: Tensor) -> dict[str, float]:
    """How well clusters fit classes, by scikit-learn and SciPy.

    Args:
        clusters: (N,) indices of clusters.
        labels: (N,) of classes.

    Returns:
        `cluster_accuracy`, the share in [0, 1] of images in the cluster that stands for their class, under the best
        one-to-one matching (Hungarian method); `nmi`, normalized mutual information in [0, 1], by the arithmetic mean
        of the entropies; `ari`, the adjusted Rand index, at most 1, about 0 by chance.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    with needs("scikit-learn", "the protocol cluster"):
        from scipy.optimize import linear_sum_assignment
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    size = int(max(clusters.max(), labels.max())) + 1
    counts = torch.bincount(clusters * size + labels, minlength=size**2).view(size, size).numpy()
    matched = counts[linear_sum_assignment(counts, maximize=True)].sum()
    truth, found = labels.numpy(), clusters.numpy()
    return {
        "cluster_accuracy": float(matched) / len(labels),
        "nmi": float(normalized_mutual_info_score(truth, found)),
        "ari": float(adjusted_rand_score(truth, found)),
    }


def _first_centers(x: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Rows of x, each drawn with a probability in proportion to its squared distance from those drawn before."""
    lengths = _lengths(x)
    drawn = [int(torch.randint(len(x), (1,), generator=generator))]
    nearest = torch.full_like(lengths, float("inf"))
    while len(drawn) < clusters:
        last = drawn[-1]
        squares = (lengths - 2 * (x @ x[last]) + lengths[last]).clamp_min(0)
        nearest = torch.minimum(nearest, squares)
        nearest[last] = 0  # it is not drawn again, whatever the rounding
        heights = nearest.double().cpu().cumsum(0)
        at = torch.rand(1, generator=generator, dtype=torch.float64) * heights[-1]
        drawn.append(min(int(torch.searchsorted(heights, at, right=True)), len(x) - 1))
    return x[drawn]


def _lengths(x: Tensor) -> Tensor:
    """Squared lengths of the rows, without a second matrix beside x."""
    lengths: Tensor = torch.linalg.vector_norm(x, dim=1)
    return lengths.square()


def _means(x: Tensor, assigned: Tensor, squares: Tensor, centers: Tensor) -> Tensor:
    """The means of the clusters; an empty one is given the image farthest from its center."""
    counts = assigned.bincount(minlength=len(centers))
    sums = torch.zeros_like(centers)
    rows = part_rows(x, len(centers))
    for part, places in zip(x.split(rows), assigned.split(rows), strict=True):
        sums.index_add_(0, places.to(centers.device), part.to(centers.device))
    means = sums / counts.clamp_min(1).unsqueeze(1).to(centers.device)
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty):
        means[empty.to(centers.device)] = x[squares.topk(len(empty)).indices].to(centers.device)
    return means
