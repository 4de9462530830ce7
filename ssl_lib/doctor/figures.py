"""The metrics of a line of metrics.jsonl: their meanings and healthy ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ssl_lib.doctor.history import History, RunFacts

__all__ = ["FIGURES", "Figure"]

Range = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """A metric in `metrics.jsonl`.

    Attributes:
        name: Key of the metric.
        meaning: Short description.
        healthy: Lowest and highest healthy value, given the facts of the run; None if there is no healthy range.
        judged: Which of the values so far is compared with the healthy range.
    """

    name: str
    meaning: str
    healthy: Callable[[RunFacts], Range | None] = lambda facts: None
    judged: Literal["last", "highest", "lowest"] = "last"

    def value(self, history: History) -> float:
        """The value that is compared with the healthy range; the metric must have been logged."""
        values = history.all(self.name)
        return {"last": values[-1], "highest": max(values), "lowest": min(values)}[self.judged]

    def limits(self, facts: RunFacts) -> str:
        """The healthy range as `0.025 to 0.25`; empty if there is none."""
        healthy = self.healthy(facts)
        return "" if healthy is None else f"{healthy[0]:.3g} to {healthy[1]:.3g}"

    def is_outside(self, history: History) -> bool:
        """Whether the value is out of the healthy range, by more than 1 %, because printed values are rounded."""
        healthy = self.healthy(history.facts)
        return healthy is not None and not 0.99 * healthy[0] <= self.value(history) <= 1.01 * healthy[1]


def _loss(facts: RunFacts) -> Range | None:
    return None if facts.chance_loss is None else (0.0, facts.chance_loss)


def _feature_std(facts: RunFacts) -> Range | None:
    even = (facts.embedding_dim or 1) ** -0.5
    return 0.1 * even, even


def _effective_rank(facts: RunFacts) -> Range | None:
    most = min((facts.rows or 2) - 1, facts.embedding_dim or 1)
    return max(1.5, 0.01 * most), float(most)


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("loss", "training loss; the upper limit, if any, is the loss at chance level", _loss),
        Figure(
            "feature_std",
            "std of the unit-length embeddings; 1 / sqrt(D) if spread evenly, 0 if collapsed",
            _feature_std,
        ),
        Figure("effective_rank", "number of directions in which the embeddings vary", _effective_rank),
        Figure("variance_top1", "fraction of the variance in the first direction; near 1 if collapsed"),
        Figure("variance_top4", "fraction of the variance in the first 4 directions"),
        Figure("variance_top16", "fraction of the variance in the first 16 directions"),
        Figure("embedding_norm", "mean norm of the embeddings"),
        Figure("uniformity", "-4 if spread evenly over the unit sphere, 0 if collapsed"),
        Figure("alignment", "squared distance between an image's two views", lambda facts: (0.0, 2.0)),
        Figure(
            "view_distance",
            "distance between an image's views divided by the distance between two images",
            lambda facts: (0.0, 0.85),
        ),
        Figure("gradient_norm", "norm of the gradients before clipping"),
        Figure(
            "update_ratio", "norm of an update divided by the norm of the weights", lambda facts: (3e-5, 0.1), "highest"
        ),
        Figure("weight_rms", "root mean square of the weights"),
        Figure(
            "teacher_momentum",
            "EMA momentum of the teacher; 1 freezes it, 0 copies the student",
            lambda facts: (0.5, 1.0),
            "lowest",
        ),
        Figure("teacher_distance", "distance between teacher and student divided by the norm of the student's weights"),
        Figure("prototype_usage", "number of first-choice prototypes divided by min(N, K)", lambda facts: (0.02, 1.0)),
        Figure("prototype_entropy", "entropy of the batch's mean assignment divided by ln K", lambda facts: (0.0, 1.0)),
        Figure(
            "assignment_entropy", "mean entropy of an image's assignment divided by ln K", lambda facts: (0.0, 0.998)
        ),
        Figure(
            "process_gap",
            "variance between the processes' embeddings divided by variance within; 1 is chance",
            lambda facts: (0.0, 4.0),
        ),
    )
}
"""All metrics by name, in the order of the report."""
