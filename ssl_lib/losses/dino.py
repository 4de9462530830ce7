"""DINO loss: cross-entropy of the student with a centered and sharpened teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lib.distributed import all_reduce_sum
from ssl_lib.losses._common import check_positive, upcast, without_autocast
from ssl_lib.memory import Memory

__all__ = ["DINOLoss"]


class DINOLoss(Memory):
    """Cross-entropy between teacher and student distributions over prototypes, across different views.

    Source: Caron et al. 2021 (arXiv:2104.14294, section 3.1); facebookresearch/dino, main_dino.py. In training mode
    each call collects the teacher's logits, and `commit` moves the center by them, once per optimizer update.

    Args:
        num_prototypes: Number of prototypes K, the width of the logits.
        student_temperature: Divides the student's logits, > 0.
        center_momentum: Momentum of the center, in [0, 1]; 1 keeps the center at zero.

    Attributes:
        center: (1, K), moving average of the teacher's logits over views, micro-batches and processes.

    Raises:
        ValueError: An argument is out of range.
    """

    center: Tensor

    def __init__(self, num_prototypes: int, student_temperature: float = 0.1, center_momentum: float = 0.9) -> None:
        super().__init__()
        check_positive("num_prototypes", num_prototypes)
        check_positive("student_temperature", student_temperature)
        if not 0.0 <= center_momentum <= 1.0:
            raise ValueError(f"center_momentum must be in [0, 1], got {center_momentum}")
        self.num_prototypes = num_prototypes
        self.student_temperature = student_temperature
        self.center_momentum = center_momentum
        self.register_buffer("center", torch.zeros(1, num_prototypes))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], teacher_temperature: float) -> Tensor:
        """Compares each student view with every teacher view except its own.

        Args:
            student: Logits (N, K) of each view. The teacher's views come first, in the same order as in `teacher`.
            teacher: Logits (N, K) of each large view; they get no gradient.
            teacher_temperature: Divides the teacher's centered logits, > 0.

        Returns:
            Scalar >= 0, averaged over the batch and over the pairs of different views.

        Raises:
            ValueError: The number or shape of the views is invalid, or the temperature is not positive.
        """
        self._check(student, teacher, teacher_temperature)
        with without_autocast(student[0]):
            with torch.no_grad():
                targets = self.targets(teacher, teacher_temperature)
                target_sum = targets.sum(0)
                logits = torch.cat(upcast(*teacher))
                self.collect(F.pad(logits.sum(0, keepdim=True), (0, 1), value=len(logits)))
            terms = []
            for i, view in enumerate(upcast(*student)):
                others = target_sum if i >= len(targets) else torch.cat((targets[:i], targets[i + 1 :])).sum(0)
                terms.append(F.cross_entropy(view / self.student_temperature, others))
            return torch.stack(terms).sum() / (len(teacher) * (len(student) - 1))

    @torch.no_grad()
    def targets(self, teacher: Sequence[Tensor], teacher_temperature: float) -> Tensor:
        """Returns the teacher's centered and sharpened distributions (views, N, K) from logits (N, K) of each view."""
        with without_autocast(teacher[0]):
            return torch.stack([F.softmax((x - self.center) / teacher_temperature, -1) for x in upcast(*teacher)])

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Adds the sums and counts of the micro-batches and processes, in place of gathering the logits."""
        return all_reduce_sum(torch.stack(tuple(parts)).sum(0))

    def update(self, *rows: Tensor) -> None:
        """Moves the center toward the mean of the logits, given their sum and count (1, K + 1)."""
        (total,) = rows
        mean = total[:, :-1] / total[:, -1:]
        self.center.lerp_(mean.to(self.center), 1.0 - self.center_momentum)

    def _check(self, student: Sequence[Tensor], teacher: Sequence[Tensor], teacher_temperature: float) -> None:
        check_positive("teacher_temperature", teacher_temperature)
        if not 1 <= len(teacher) <= len(student) or len(student) < 2:
            raise ValueError(
                "student must contain the teacher's views, and at least two views in total; "
                f"got {len(student)} student and {len(teacher)} teacher views"
            )
        shape = (len(student[0]), self.num_prototypes)
        for name, views in (("student", student), ("teacher", teacher)):
            for i, view in enumerate(views):
                if view.shape != shape or not len(view) or not view.is_floating_point():
                    raise ValueError(
                        f"{name}[{i}] must have shape (N, {self.num_prototypes}) and a float dtype, with the N of "
                        f"student[0] and N >= 1, got {tuple(view.shape)} and {view.dtype}"
                    )
