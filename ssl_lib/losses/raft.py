"""RAFT loss: aligns the predictions of two views and moves them away from the teacher."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_lib.losses._common import check_pair, check_weight, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["RAFTLoss"]


class RAFTLoss(nn.Module):
    """Distance between the predictions of both views, minus the distance of each from the teacher of the same view.

    Distances are squared, between rows of unit length: 2 - 2 cos. The distance from the teacher is the mean over both
    views. Source: Shi et al. 2020 (arXiv:2011.10944); WOWNICE/RAFT, models/main/raft.py.

    Args:
        alignment_weight: Weight of the distance between the predictions, >= 0.
        teacher_weight: Weight of the distance from the teacher, >= 0.

    Raises:
        ValueError: A weight is out of range.
    """

    def __init__(self, alignment_weight: float = 1.0, teacher_weight: float = 1.0) -> None:
        super().__init__()
        check_weight("alignment_weight", alignment_weight)
        check_weight("teacher_weight", teacher_weight)
        self.alignment_weight, self.teacher_weight = alignment_weight, teacher_weight

    def forward(self, prediction_a: Tensor, prediction_b: Tensor, target_a: Tensor, target_b: Tensor) -> Tensor:
        """Computes the loss row by row; all inputs are (N, D) and need not be normalized.

        Args:
            prediction_a: The student's predictions of the first view.
            prediction_b: The student's predictions of the second view.
            target_a: The teacher's projections of the first view. Gets no gradient.
            target_b: The teacher's projections of the second view. Gets no gradient.

        Returns:
            Scalar in [-4 teacher_weight, 4 alignment_weight], averaged over the batch. The cosine of a zero row is 0.

        Raises:
            ValueError: The tensors are not float matrices of the same shape, or are empty.
        """
        check_pair(prediction_a, prediction_b, ("prediction_a", "prediction_b"), min_batch=1)
        check_pair(prediction_a, target_a, ("prediction_a", "target_a"), min_batch=1)
        check_pair(prediction_b, target_b, ("prediction_b", "target_b"), min_batch=1)
        with without_autocast(prediction_a):
            inputs = upcast(prediction_a, prediction_b, target_a.detach(), target_b.detach())
            p_a, p_b, t_a, t_b = map(unit_rows, inputs)
            alignment = 2 - 2 * (p_a * p_b).sum(1).mean()
            from_teacher = 2 - (p_a * t_a + p_b * t_b).sum(1).mean()
            return self.alignment_weight * alignment - self.teacher_weight * from_teacher
