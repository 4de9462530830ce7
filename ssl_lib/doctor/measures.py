"""The figures that a run writes beside its loss, cheap enough for every line."""

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

__all__ = ["ROWS", "measure_output", "process_gap", "relative_distance", "total_norm"]

ROWS = 256
"""Images of the batch, over all processes, whose embeddings are looked at."""


@torch.no_grad()
def measure_output(output: StepOutput) -> dict[str, float]:
    """Figures of a step's embeddings and assignments, those of `ROWS` images of all processes; empty where not finite.

    Several processes must call it together, and get the same.
    """
    figures: dict[str, float] = {}
    x, y, assignments = (_rows(part) for part in (output.embeddings, output.embeddings_b, output.assignments))
    if x is not None and len(x) > 1 and x.isfinite().all():
        figures["feature_std"] = feature_std(x)
        figures["effective_rank"] = effective_rank(x)
        shares = explained_variance(x)
        figures |= {f"variance_top{count}": shares[:count].sum().item() for count in (1, 4, 16)}
        figures["embedding_norm"] = x.norm(dim=1).mean().item()
        figures["uniformity"] = uniformity(x)
        if world_size() > 1 and len(x) > world_size():
            figures["process_gap"] = process_gap(x, world_size())
        if y is not None and y.isfinite().all():
            figures["alignment"] = alignment(x, y)
            figures["view_distance"] = view_distance(x, y)
    if assignments is not None and assignments.isfinite().all():
        figures["prototype_usage"] = prototype_usage(assignments)
        figures["prototype_entropy"] = prototype_entropy(assignments)
        figures["assignment_entropy"] = assignment_entropy(assignments)
    return figures


def process_gap(x: Tensor, processes: int) -> float:
    """How much the embeddings (N, D) differ between processes, each with its block of rows, as an F statistic.

    About 1 where the groups are drawn alike, as shuffled images are; far above it where an embedding tells which
    process made it, as in networks that exploit batch statistics of their own (He et al. 2020, arXiv:1911.05722,
    section 3.3, "Shuffling BN").
    """
    groups = x.double().unflatten(0, (processes, -1))  # (processes, n, D)
    means = groups.mean(1)
    count = groups.shape[1]
    between = count * (means - means.mean(0)).square().sum() / (processes - 1)
    within = (groups - means.unsqueeze(1)).square().sum() / (processes * (count - 1))
    return float(between / within.clamp_min(1e-300))


@torch.no_grad()
def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of tensors taken together, those sharded over the processes as wholes."""
    return norms(list(tensors)).norm() if tensors else torch.zeros(())


@torch.no_grad()
def relative_distance(tensors: Iterable[Tensor], references: Iterable[Tensor]) -> float:
    """The Euclidean norm of all differences over that of the references; sharded tensors as wholes."""
    tensors, references = list(tensors), list(references)
    sharded = any(isinstance(tensor, DTensor) for tensor in (*tensors, *references))
    parts = [local(reference) for reference in references]
    differences = torch._foreach_sub([local(tensor) for tensor in tensors], parts)
    squares = torch.stack([norms(list(group)).square().sum() for group in (differences, parts)])
    if sharded:
        squares = all_reduce_sum(squares)
    return float((squares[0] / squares[1].clamp_min(1e-30)).sqrt())


def _rows(x: Tensor | None) -> Tensor | None:
    """The first rows of every process, joined; wide enough for the spectra of half-precision embeddings."""
    return None if x is None else gather(x[: max(1, ROWS // world_size())].detach().float().contiguous())
