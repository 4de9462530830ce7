"""History of the logged metrics of a run, and the facts about the run that rules need."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["History", "RunFacts"]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Facts about a run that the rules need; None if unknown or not applicable.

    Attributes:
        total_steps: Optimizer updates in the whole run.
        steps_per_epoch: Optimizer updates per epoch.
        rows: Number of embeddings that the metrics are computed from.
        embedding_dim: Width of the embeddings.
        prototypes: Number of prototypes.
        weight_rms: Root mean square of the weights before the first update.
        chance_loss: Loss of embeddings that carry no information about the images, as declared by the method.
    """

    total_steps: int
    steps_per_epoch: int
    rows: int | None = None
    embedding_dim: int | None = None
    prototypes: int | None = None
    weight_rms: float | None = None
    chance_loss: float | None = None


class History:
    """The logged values of each metric, in order.

    Args:
        facts: Facts about the run.
    """

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self.step = 0
        self._values: dict[str, list[float]] = defaultdict(list)
        self._steps: dict[str, list[int]] = defaultdict(list)

    def add(self, line: Mapping[str, float]) -> None:
        """Appends a line of `metrics.jsonl`."""
        self.step = int(line["step"])
        for name, value in line.items():
            self._values[name].append(float(value))
            self._steps[name].append(self.step)

    @property
    def epochs(self) -> float:
        """Number of epochs trained at the last line."""
        return (self.step + 1) / self.facts.steps_per_epoch

    @property
    def too_short(self) -> bool:
        """Whether the run is too short for most rules, which need one epoch and 30 updates."""
        return self.step + 1 < max(30, self.facts.steps_per_epoch)

    @property
    def finished(self) -> bool:
        """Whether the last line belongs to the last update."""
        return self.step + 1 >= self.facts.total_steps

    def all(self, name: str) -> Sequence[float]:
        """All values of a metric."""
        return self._values.get(name, ())

    def of_last_epoch(self, name: str) -> Sequence[float]:
        """Values of the last `steps_per_epoch` updates; empty before the end of the first epoch."""
        first = self.step - self.facts.steps_per_epoch
        return self.all(name)[bisect_right(self._steps[name], first) :] if first >= -1 else ()

    def last(self, name: str, count: int) -> Sequence[float]:
        """The last `count` values of a metric; empty if there are fewer."""
        values = self.all(name)
        return values[-count:] if len(values) >= count else ()
