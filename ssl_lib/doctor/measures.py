"""Computes the label-free metrics that are logged with the loss: embedding statistics, norms and distances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ssl_lib.distributed import all_reduce_sum, gather, local, world_size
from ssl_lib.evaluation import (
    alignment,
    assignment_entropy,
    effective_rank,
    explained_variance,
    feature_std,
    prototype_entropy,
    prototype_usage,
    uniformity,
    view_distance,
)
from ssl_lib.optim.grad_norms import norms
from ssl_lib.types import StepOutput
from ssl_lib.utils.rows import row_norms

__all__ = ["ROWS", "measure_output", "process_gap", "relative_distance", "total_norm"]

ROWS = 256
"""Number of images of the batch, over all processes, whose embeddings are used."""


@torch.no_grad()
def measure_output(output: StepOutput) -> dict[str, float]:
    """Computes the metrics of a step's embeddings and assignments; non-finite embeddings or assignments are skipped.

    It uses `ROWS` images over all processes. All processes must call it together and get the same values.
    """
    metrics: dict[str, float] = {}
    x, y, assignments = (_rows(part) for part in (output.embeddings, output.embeddings_b, output.assignments))
    if x is not None and len(x) > 1 and x.isfinite().all():
        metrics["feature_std"] = feature_std(x)
        metrics["effective_rank"] = effective_rank(x)
        variances = explained_variance(x)
        metrics |= {f"variance_top{count}": variances[:count].sum().item() for count in (1, 4, 16)}
        metrics["embedding_norm"] = row_norms(x).mean().item()
        metrics["uniformity"] = uniformity(x)
        if world_size() > 1 and len(x) > world_size():
            metrics["process_gap"] = process_gap(x, world_size())
        if y is not None and y.isfinite().all():
            metrics["alignment"] = alignment(x, y)
            metrics["view_distance"] = view_distance(x, y)
    if assignments is not None and assignments.isfinite().all():
        metrics["prototype_usage"] = prototype_usage(assignments)
        metrics["prototype_entropy"] = prototype_entropy(assignments)
        metrics["assignment_entropy"] = assignment_entropy(assignments)
    return metrics


def process_gap(x: Tensor, processes: int) -> float:
    """F statistic of the embeddings (N, D) between processes; each process has one contiguous block of rows.

    It is about 1 if all processes draw from the same distribution, as with shuffled images. It is far above 1 if an
    embedding reveals its process, as in networks that exploit per-process batch statistics (He et al. 2020,
    arXiv:1911.05722, section 3.3, "Shuffling BN").
    """
    groups = x.double().unflatten(0, (processes, -1))  # (processes, n, D)
    means = groups.mean(1)
    count = groups.shape[1]
    between = count * (means - means.mean(0)).square().sum() / (processes - 1)
    within = (groups - means.unsqueeze(1)).square().sum() / (processes * (count - 1))
    return float(between / within.clamp_min(1e-300))


@torch.no_grad()
def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all tensors together; sharded tensors count in full."""
    return norms(list(tensors)).norm() if tensors else torch.zeros(())


@torch.no_grad()
def relative_distance(tensors: Iterable[Tensor], references: Iterable[Tensor]) -> float:
    """Euclidean norm of all differences divided by the norm of the references; sharded tensors count in full."""
    tensors, references = list(tensors), list(references)
    sharded = any(isinstance(tensor, DTensor) for tensor in (*tensors, *references))
    parts = [local(reference) for reference in references]
    differences = torch._foreach_sub([local(tensor) for tensor in tensors], parts)
    squares = torch.stack([norms(list(group)).square().sum() for group in (differences, parts)])
    if sharded:
        squares = all_reduce_sum(squares)
    return float((squares[0] / squares[1].clamp_min(1e-30)).sqrt())


def _rows(x: Tensor | None) -> Tensor | None:
    """Gathers the first rows of every process, in float32 because the spectra do not support half precision."""
    return None if x is None else gather(x[: max(1, ROWS // world_size())].detach().float().contiguous())
