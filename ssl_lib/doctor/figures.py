"""The figures of a line: what each means, and between which values it is healthy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ssl_lib.doctor.history import RunFacts

__all__ = ["FIGURES", "Figure"]

Range = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """A number in `metrics.jsonl`.

    Attributes:
        name: Its key there.
        meaning: In a few words.
        healthy: The lowest and the highest healthy value, given the facts of the run; None where there are none.
        judged: Which of its values so far is to lie between them.
    """

    name: str
    meaning: str
    healthy: Callable[[RunFacts], Range | None]
    judged: Literal["last", "highest", "lowest"] = "last"


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
        Figure("loss", "of the last lines; where a range stands, its upper end is that of chance", _loss),
        Figure("feature_std", "spread of the unit-length embeddings; 1 / sqrt(D) is even, 0 a point", _feature_std),
        Figure("effective_rank", "directions in which the embeddings vary", _effective_rank),
        Figure("variance_top1", "share of the variance in the first direction; near 1 is collapse", lambda facts: None),
        Figure("variance_top4", "the same, in the first 4 directions", lambda facts: None),
        Figure("variance_top16", "the same, in the first 16 directions", lambda facts: None),
        Figure("embedding_norm", "length of the embeddings", lambda facts: None),
        Figure("uniformity", "-4 spread over the sphere, 0 a point", lambda facts: None),
        Figure("alignment", "squared distance of an image's two views", lambda facts: (0.0, 2.0)),
        Figure("view_distance", "the same, of that of two images", lambda facts: (0.0, 0.85)),
        Figure("gradient_norm", "before clipping", lambda facts: None),
        Figure("update_ratio", "step of an update, of the weights' norm", lambda facts: (3e-5, 0.1), "highest"),
        Figure("weight_rms", "root mean square of the weights", lambda facts: None),
        Figure("teacher_momentum", "1 is a teacher at rest, 0 the student itself", lambda facts: (0.5, 1.0), "lowest"),
        Figure("teacher_distance", "teacher from student, of the weights' norm", lambda facts: None),
        Figure("prototype_usage", "prototypes that an image chooses first, of min(N, K)", lambda facts: (0.02, 1.0)),
        Figure("prototype_entropy", "of the batch's mean assignment, of ln K", lambda facts: (0.0, 1.0)),
        Figure("assignment_entropy", "of one image's assignment, of ln K", lambda facts: (0.0, 0.998)),
        Figure("process_gap", "between the processes' embeddings; 1 is chance", lambda facts: (0.0, 4.0)),
    )
}
"""By name, in the order in which they are shown."""
