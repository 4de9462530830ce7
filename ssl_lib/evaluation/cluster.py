"""k-means clustering of frozen features, scored against the classes (accuracy, NMI, ARI)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lib.clustering import k_means, nearest_center
from ssl_lib.evaluation.base import EvaluatedEncoder, Scores, check_at_least
from ssl_lib.evaluation.features import progress
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric
from ssl_lib.utils.optional import needs
from ssl_lib.utils.rows import check_finite, unit_rows

__all__ = ["Cluster", "cluster_scores"]


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
