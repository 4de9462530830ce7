"""k-means clustering of frozen features, scored against the classes (accuracy, NMI, ARI)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lib.evaluation.base import EvaluatedEncoder, Scores, check_at_least
from ssl_lib.evaluation.checks import check_finite
from ssl_lib.evaluation.classification import part_rows
from ssl_lib.evaluation.features import progress
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric
from ssl_lib.utils.optional import needs
from ssl_lib.utils.rows import unit_rows

__all__ = ["Cluster", "cluster_scores", "k_means", "nearest_center"]

_FIRST_CENTERS = 2**14  # number of images to draw initial centers from, or 20 per cluster if that is more


@PROTOCOLS.register("cluster")
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """k-means on the training images; compares the test images' clusters with their classes. Needs the extra `eval`.

    This is the standard evaluation of unsupervised classification (SCAN, Van Gansbeke et al. 2020, arXiv:2005.12320,
    section 3): as many clusters as classes, on unit-length features; see `cluster_scores`.

    Attributes:
        clusters: Number of clusters; None uses the number of classes, one more than the largest label of the training
            and test images.
        restarts: Number of k-means runs; the run with the lowest inertia is kept, so labels play no role.
        max_steps: Maximum number of k-means iterations per run.
        seed: Seed for the initial centers.
    """

    clusters: int | None = None
    restarts: int = 5
    max_steps: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clusters is not None and self.clusters < 2:
            raise ValueError(f"clusters must be at least 2, got {self.clusters}; null uses the number of classes")
        check_at_least(1, self, "restarts", "max_steps")

    @property
    def measures(self) -> Sequence[Metric]:
        """Accuracy, NMI and ARI."""
        return [
            Metric("cluster_accuracy", "k-means accuracy"),
            Metric("nmi", "k-means NMI", main=False),
            Metric("ari", "k-means ARI", main=False),
        ]

    def check(self, bank_labels: Tensor) -> None:
        """Raises an error if there are more clusters than images or if scikit-learn is not installed."""
        with needs("scikit-learn", "the protocol cluster"):
            importlib.import_module("sklearn")
        if (clusters := self.clusters or int(bank_labels.max()) + 1) > len(bank_labels):
            number = f"{clusters}" if self.clusters else f"null, the number of classes, {clusters},"
            raise ValueError(
                f"cluster.clusters {number} is more than the {len(bank_labels)} labeled training images: use more "
                f"images, or set clusters to at most {len(bank_labels)}"
            )

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Returns the three metrics; the details hold the number of clusters, and inertia and iterations per run."""
        f = subject.features
        clusters = self.clusters or f.num_classes
        check_finite("queries", f.queries)
        bank, queries = unit_rows(f.bank), unit_rows(f.queries)
        generator = torch.Generator().manual_seed(self.seed)
        starts = progress(range(self.restarts), f"{subject.title}: k-means")
        runs = [k_means(bank, clusters, generator, self.max_steps, subject.device) for _ in starts]
        centers, inertia, _ = min(runs, key=lambda run: run[1])
        assigned = nearest_center(queries, centers)[0]
        inertias, steps = [run[1] for run in runs], [run[2] for run in runs]
        details = {"clusters": clusters, "inertia": inertia, "inertias": inertias, "steps": steps}
        return Scores(cluster_scores(assigned, f.query_labels), details)


@torch.no_grad()
def k_means(
    x: Tensor, clusters: int, generator: torch.Generator, max_steps: int = 100, device: torch.device | None = None
) -> tuple[Tensor, float, int]:
    """Lloyd's algorithm with k-means++ initialization (Arthur and Vassilvitskii 2007).

    Initial centers are drawn from 16,384 images, or 20 per cluster if that is more. The center of an empty cluster
    moves to the image farthest from its own center. The algorithm stops when no image changes its cluster.

    Args:
        x: (N, D). It stays on its device and is moved to `device` in chunks.
        clusters: Number of clusters, at most N.
        generator: A CPU generator.
        max_steps: Maximum number of iterations, at least 1.
        device: Device to compute on; None uses the device of x.

    Returns:
        Centers (clusters, D) on the device, the mean squared distance to the nearest center, and the number of
        iterations.

    Raises:
        ValueError: There are more clusters than images, or x is NaN or infinite, or its squares overflow or underflow.
    """
    if not 1 <= clusters <= len(x):
        raise ValueError(f"clusters must be in [1, {len(x)}] (at most the number of images), got {clusters}")
    _check_range(x)
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
    """Index of the nearest of the centers (K, D) for each row of x (N, D), and its squared distance; both (N,)."""
    own, found = centers.square().sum(1), []
    for part in x.split(part_rows(x, len(centers))):
        some = part.to(centers.device)
        least, place = (own - 2 * some @ centers.T).min(1)
        squares = (least + torch.linalg.vector_norm(some, dim=1).square()).clamp_min(0)
        found.append((place.to(x.device), squares.to(x.device)))
    places, squares = map(torch.cat, zip(*found, strict=True))
    return places, squares


def cluster_scores(clusters: Tensor, labels: Tensor) -> dict[str, float]:
    """Agreement between clusters and classes, computed with scikit-learn and SciPy.

    Memory follows the number of images, not the number of clusters times the number of classes.

    Args:
        clusters: (N,) cluster indices.
        labels: (N,) class indices.

    Returns:
        `cluster_accuracy`, the accuracy in [0, 1] under the best one-to-one matching of clusters to classes (Hungarian
        method); `nmi`, the mutual information in [0, 1], normalized by the arithmetic mean of the entropies; `ari`, the
        adjusted Rand index, at most 1 and about 0 by chance.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    with needs("scikit-learn", "the protocol cluster"):
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    truth, found = labels.numpy(), clusters.numpy()
    return {
        "cluster_accuracy": _best_matching(clusters, labels) / len(labels),
        "nmi": float(normalized_mutual_info_score(truth, found)),
        "ari": float(adjusted_rand_score(truth, found)),
    }


def _best_matching(clusters: Tensor, labels: Tensor) -> int:
    """Number of images in the class that the best one-to-one matching gives to their cluster.

    Memory is bounded by the pairs of a cluster and a class that occur. Every cluster also has a pair of its own without
    images, so that a matching of all clusters exists, and every pair counts one image more, because the solver leaves
    out pairs of weight 0. Neither changes which matching is the best.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    rows, columns = (x.unique(return_inverse=True)[1] for x in (clusters, labels))  # only those that occur
    height, width = (int(x.max()) + 1 for x in (rows, columns))
    pairs, counts = (rows * width + columns).unique(return_counts=True)
    own = torch.arange(height)
    places = torch.cat([pairs // width, own]), torch.cat([pairs % width, width + own])
    weights = torch.cat([counts, torch.zeros_like(own)]).double() + 1
    table = csr_matrix((weights.numpy(), tuple(x.numpy() for x in places)), shape=(height, width + height))
    chosen = min_weight_full_bipartite_matching(table, maximize=True)
    return round(float(table[chosen].sum())) - height


def _check_range(x: Tensor) -> None:
    """Raises ValueError if x is NaN or infinite, or if squares of its values overflow or underflow."""
    check_finite("features", x)
    numbers, largest = torch.finfo(x.dtype), max(abs(float(value)) for value in x.aminmax())
    low, high = (numbers.tiny / numbers.eps) ** 0.5, (numbers.max * numbers.eps) ** 0.5
    if largest and not low < largest < high:
        raise ValueError(
            f"the largest absolute feature is {largest:.3g}, and its square is outside the range of {x.dtype}: "
            "divide the features by it"
        )


def _first_centers(x: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++: draws rows of x with probability proportional to the squared distance to the nearest drawn row."""
    norms = torch.linalg.vector_norm(x, dim=1).square()
    drawn = [int(torch.randint(len(x), (1,), generator=generator))]
    nearest = torch.full_like(norms, float("inf"))
    while len(drawn) < clusters:
        last = drawn[-1]
        squares = (norms - 2 * (x @ x[last]) + norms[last]).clamp_min(0)
        nearest = torch.minimum(nearest, squares)
        nearest[last] = 0  # rounding must not let the same row be drawn again
        heights = nearest.double().cpu().cumsum(0)
        at = torch.rand(1, generator=generator, dtype=torch.float64) * heights[-1]
        drawn.append(min(int(torch.searchsorted(heights, at, right=True)), len(x) - 1))
    return x[drawn]


def _means(x: Tensor, assigned: Tensor, squares: Tensor, centers: Tensor) -> Tensor:
    """Cluster means; the center of an empty cluster becomes the image farthest from its own center."""
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
