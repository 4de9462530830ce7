"""The lines of a run so far, figure by figure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["History", "RunFacts"]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What the rules need to know of a run; None where it does not apply or is not known.

    Attributes:
        total_steps: Optimizer updates of the whole run.
        steps_per_epoch: Updates of an epoch.
        rows: Embeddings that the figures are of.
        embedding_dim: Width of the embeddings.
        prototypes: Number of prototypes.
        weight_rms: Root mean square of the weights before the first update.
        chance_loss: The loss of embeddings that tell nothing of the images, as the method declares it.
    """

    total_steps: int
    steps_per_epoch: int
    rows: int | None = None
    embedding_dim: int | None = None
    prototypes: int | None = None
    weight_rms: float | None = None
    chance_loss: float | None = None


class History:
    """What was logged of each figure, in order.

    Args:
        facts: What is known of the run.
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
        """Epochs trained at the last line."""
        return (self.step + 1) / self.facts.steps_per_epoch

    @property
    def too_short(self) -> bool:
        """Whether the run has not come so far that most rules could speak: an epoch and 30 updates."""
        return self.step + 1 < max(30, self.facts.steps_per_epoch)

    @property
    def finished(self) -> bool:
        """Whether the last line is of the last update."""
        return self.step + 1 >= self.facts.total_steps

    def all(self, name: str) -> Sequence[float]:
        """Every value of a figure."""
        return self._values.get(name, ())

    def of_last_epoch(self, name: str) -> Sequence[float]:
        """The values of the last `steps_per_epoch` updates; none before an epoch is over."""
        first = self.step - self.facts.steps_per_epoch
        return self.all(name)[bisect_right(self._steps[name], first) :] if first >= -1 else ()

    def last(self, name: str, count: int) -> Sequence[float]:
        """The last values of a figure; none where there are not so many."""
        values = self.all(name)
        return values[-count:] if len(values) >= count else ()
