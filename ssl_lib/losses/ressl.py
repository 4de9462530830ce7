"""ReSSL loss: the student predicts how similar the teacher finds an image to a queue of other images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lib.losses._common import check_pair, check_positive, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["ReSSLLoss"]


class ReSSLLoss(nn.Module):
    """Cross-entropy between the teacher's and the student's distributions over the rows of a queue.

    Each distribution is a softmax of the cosine similarities with the queue. There is no positive among the logits.
    Source: Zheng et al. 2021 (arXiv:2107.09282, section 3.2); KyleZheng1997/ReSSL, ressl.py and network/ressl.py.

    Args:
        student_temperature: Divides the student's similarities, > 0.
        teacher_temperature: Divides the teacher's similarities, > 0; less than the student's, so that the targets are
            sharper than the predictions.

    Raises:
        ValueError: A temperature is out of range.
    """

    def __init__(self, student_temperature: float = 0.1, teacher_temperature: float = 0.04) -> None:
        super().__init__()
        check_positive("student_temperature", student_temperature)
        check_positive("teacher_temperature", teacher_temperature)
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature

    def forward(self, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        """Computes the loss of queries and keys (N, D), row i of both from image i; rows need not be normalized.

        Args:
            query: The student's embeddings.
            key: The teacher's embeddings of another view. Gets no gradient.
            queue: Embeddings (K, D) of other images, of unit length.

        Returns:
            Scalar >= 0, averaged over this process's queries. Chance level, a uniform student, is log(K).

        Raises:
            ValueError: Queries and keys are not float matrices of the same shape, or are empty.
        """
        check_pair(query, key, ("query", "key"), min_batch=1)
        with without_autocast(query):
            query, key = map(unit_rows, upcast(query, key.detach()))
            queue = queue.to(query)
            targets = (key @ queue.T / self.teacher_temperature).softmax(1)  # (N, K)
            return F.cross_entropy(query @ queue.T / self.student_temperature, targets)
