"""Which figures of metrics.jsonl stand together, what they are called, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ssl_lib.doctor import FIGURES, RunFacts
from ssl_lib.report.numbers import number_of, shown
from ssl_lib.report.run import Table

__all__ = ["GROUPS", "Speed", "grouped", "meaning", "speed", "values_of"]

_APART = {"step", "epoch"}
GROUPS: Mapping[str, Sequence[str]] = {
    "Loss and learning rate": ("loss", "lr"),
    "Representation": ("feature_std", "embedding_norm", "uniformity", "alignment", "view_distance", "process_gap"),
    "Spectrum of the embeddings": ("effective_rank", "variance_top1", "variance_top4", "variance_top16"),
    "Teacher and prototypes": (
        *("teacher_momentum", "teacher_distance"),
        *("prototype_usage", "prototype_entropy", "assignment_entropy"),
    ),
    "Optimization": ("gradient_norm", "update_ratio", "weight_rms", "skipped"),
    "Throughput": ("images_per_second", "data_wait", "memory_gb"),
}
"""By group, the figures in their order."""
_MEANINGS = {
    "loss": "what training minimizes; the upper end is the loss of chance",
    "lr": "learning rate",
    "skipped": "updates left out for numbers that were not finite",
    "images_per_second": "images trained on per second",
    "data_wait": "share of the time, 0 to 1",
    "memory_gb": "the most so far, of the GPU or of the process",
}


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


def meaning(name: str, facts: RunFacts | None) -> str:
    """What a figure says, and where it is healthy, as far as the doctor knows."""
    figure = FIGURES.get(name)
    if figure is None:
        return _MEANINGS.get(name, "")
    healthy = None if facts is None else figure.healthy(facts)
    which = "" if figure.judged == "last" else f"where it is {figure.judged} "
    return _MEANINGS.get(name, figure.meaning) + (
        f"; healthy {which}from {shown(healthy[0])} to {shown(healthy[1])}" if healthy else ""
    )


def values_of(metrics: Sequence[Table], name: str) -> tuple[list[float], list[float]]:
    """The steps at which a figure was logged, and its values."""
    pairs = [(number_of(line.get("step", index)), number_of(line.get(name))) for index, line in enumerate(metrics)]
    good = [(step, value) for step, value in pairs if step is not None and value is not None]
    return [step for step, _ in good], [value for _, value in good]


def speed(metrics: Sequence[Table]) -> Speed | None:
    """How fast a run was; None where it does not say."""
    rates, waits = values_of(metrics, "images_per_second")[1], values_of(metrics, "data_wait")[1]
    return Speed(median(rates), median(waits), max(waits)) if rates and waits else None
