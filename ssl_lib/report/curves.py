"""Which figures of metrics.jsonl stand together, what they are called, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ssl_lib.report.numbers import number_of
from ssl_lib.report.run import Table

__all__ = ["GROUPS", "Speed", "grouped", "speed", "values_of"]

_APART = {"step", "epoch"}
GROUPS: Mapping[str, Mapping[str, str]] = {
    "Training": {
        "loss": "comparable between runs of one method only",
        "lr": "learning rate",
    },
    "Representation": {
        "feature_std": "spread of the unit-length embeddings: 1/√D is even, 0 is a collapse to a point",
        "effective_rank": "directions in which the embeddings vary",
        "rankme": "directions that the features use",
        "embedding_norm": "length of the embeddings",
        "uniformity": "-4 is spread over the sphere, 0 a point",
        "alignment": "squared distance of an image's two views",
        "view_distance": "the same, as a share of that of two images",
        "process_gap": "between the processes' embeddings; 1 is chance",
    },
    "Teacher and prototypes": {
        "teacher_momentum": "1 is a teacher at rest, 0 the student itself",
        "teacher_distance": "teacher from student, of the weights' norm",
        "prototype_usage": "prototypes that an image chooses first, as a share",
        "prototype_entropy": "of the batch's mean assignment: 1 uses all prototypes alike",
        "assignment_entropy": "of one image's assignment: 0 is certain, 1 is none",
    },
    "Optimisation": {
        "gradient_norm": "before clipping",
        "update_ratio": "step of an update, as a share of the weights' norm",
        "skipped": "updates left out for numbers that were not finite",
    },
    "Throughput": {
        "images_per_second": "images trained on per second",
        "data_wait": "share of the time, 0 to 1",
    },
}
"""By group, the figures in their order, with what they mean."""


@dataclass(frozen=True)
class Speed:
    """Medians over the lines of a run, and the longest of the waits."""

    images_per_second: float
    data_wait: float
    longest_wait: float


def grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """The groups that are not empty, with what none of them knows, such as a method's own figures, before the last."""
    known = {name for group in GROUPS.values() for name in group}
    groups = {title: [name for name in group if name in names] for title, group in GROUPS.items()}
    throughput = groups.popitem()
    groups["Other figures"] = [name for name in names if name not in known | _APART]
    return {title: group for title, group in (*groups.items(), throughput) if group}


def values_of(metrics: Sequence[Table], name: str) -> tuple[list[float], list[float]]:
    """The steps at which a figure was logged, and its values."""
    pairs = [(number_of(line.get("step", index)), number_of(line.get(name))) for index, line in enumerate(metrics)]
    good = [(step, value) for step, value in pairs if step is not None and value is not None]
    return [step for step, _ in good], [value for _, value in good]


def speed(metrics: Sequence[Table]) -> Speed | None:
    """How fast a run was; None where it does not say."""
    rates, waits = values_of(metrics, "images_per_second")[1], values_of(metrics, "data_wait")[1]
    return Speed(median(rates), median(waits), max(waits)) if rates and waits else None
