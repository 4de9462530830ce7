"""Coding rate loss of SimDINO: agreement with a teacher, and features that span many directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_lib.distributed import all_reduce_sum, world_size
from ssl_lib.losses._common import check_positive, check_weight, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["CodingRateLoss"]


class CodingRateLoss(nn.Module):
    """Minus the cosine similarity of different views and minus the coding rate of the large views' features.

    Source: Wu et al. 2025 (arXiv:2502.10385); RobinWu218/SimDINO, simdino/main_dino.py. For M images
    of all processes, the rate of features Z (M, D) is (D + M) / (D M) times 1/2 log det(I + D / (M eps) Z^T Z). The
    reference sums Z^T Z over processes only with `--reduce_cov=1`; otherwise it divides each process's sum by M.

    Args:
        eps: Precision of the coding rate, > 0; smaller values reward more spread.
        weight: Weight of the similarity, >= 0.
        expansion: Features whose rate is computed: "mean", of the student's and the teacher's; or "student".

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, eps: float = 0.5, weight: float = 1.0, expansion: Literal["mean", "student"] = "mean") -> None:
        super().__init__()
        check_positive("eps", eps)
        check_weight("weight", weight)
        if expansion not in ("mean", "student"):
            raise ValueError(f"expansion must be 'mean' or 'student', got {expansion!r}")
        self.eps, self.weight, self.expansion = eps, weight, expansion

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Compares each student view with every teacher view except its own.

        Args:
            student: Features (N, D) of each view, of unit length. The teacher's views come first, in the same order as
                in `teacher`.
            teacher: Features (N, D) of each large view, of unit length.

        Returns:
            Scalar, averaged over the images, the pairs of different views and the large views.

        Raises:
            ValueError: The number or shape of the views is invalid.
        """
        _check(student, teacher)
        with without_autocast(student[0]):
            views = upcast(*student, *teacher)
            own, targets = views[: len(student)], views[len(student) :]
            units, unit_targets = [unit_rows(x) for x in own], [unit_rows(x) for x in targets]
            similarities = [
                (unit * target).sum(1).mean()
                for i, unit in enumerate(units)
                for j, target in enumerate(unit_targets)
                if i != j
            ]
            large = own[: len(targets)]
            if self.expansion == "mean":
                large = [(a + b) / 2 for a, b in zip(large, targets, strict=True)]
            rate = self._coding_rate(torch.stack(large)).mean()
            return -self.weight * torch.stack(similarities).mean() - rate

    def _coding_rate(self, features: Tensor) -> Tensor:
        """The rate of each of several views: (V, N, D) -> (V,)."""
        images, dim = world_size() * features.shape[1], features.shape[2]
        moments = all_reduce_sum(features.mT @ features)
        identity = torch.eye(dim, dtype=features.dtype, device=features.device)
        factor, _ = torch.linalg.cholesky_ex(identity + dim / (images * self.eps) * moments)
        half_log_det: Tensor = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return (dim + images) / (dim * images) * half_log_det


def _check(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
    if not 1 <= len(teacher) <= len(student) or len(student) < 2:
        raise ValueError(
            "student must contain the teacher's views, and at least two views in total; "
            f"got {len(student)} student and {len(teacher)} teacher views"
        )
    for name, views in (("student", student), ("teacher", teacher)):
        for i, view in enumerate(views):
            if view.ndim != 2 or view.shape != student[0].shape or not view.numel() or not view.is_floating_point():
                raise ValueError(
                    f"{name}[{i}] must be a float tensor (N, D) with the shape of student[0], "
                    f"{tuple(student[0].shape)}; got {view.dtype} of shape {tuple(view.shape)}"
                )
