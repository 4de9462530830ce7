"""What a few labels are enough for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ssl_lib.evaluation.base import EvaluatedEncoder, Scores
from ssl_lib.evaluation.classification import few_labels, share_of_labels, spread
from ssl_lib.evaluation.features import progress
from ssl_lib.evaluation.logistic import STRENGTHS, logistic_probe
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric

__all__ = ["LowShot"]

_TO_CHOOSE = 5  # labels of a class from which on one can be spared to choose by


@PROTOCOLS.register("lowshot")
@dataclass(frozen=True, kw_only=True)
class LowShot:
    """Logistic regression on a few labeled training images, several draws of them: mean and standard deviation.

    Source: the shares are those of SimCLR (Chen et al. 2020, arXiv:2002.05709, section 6, table 7), 1 and 10 % of the
    labels of every class; the few per class, and logistic regression on frozen features for both, those of MSN (Assran
    et al. 2022, arXiv:2204.07141, section 6). C is chosen by `logistic_probe` on a fifth of the few labels; where a
    class has fewer than five it is 1. The test images are the same for all draws.

    Attributes:
        shares: Of the labeled training images of every class, in (0, 1).
        per_class: Numbers of labeled images of every class.
        draws: Random choices of the labels to average over.
    """

    shares: tuple[float, ...] = (0.01, 0.1)
    per_class: tuple[int, ...] = (1, 5, 10)
    draws: int = 5

    def __post_init__(self) -> None:
        if not self.shares and not self.per_class:
            raise ValueError("shares and per_class are both empty: there is nothing to measure")
        if not all(0 < share < 1 for share in self.shares):
            raise ValueError(f"shares must lie in (0, 1), got {self.shares}; all labels are what `linear` takes")
        if not all(count >= 1 for count in self.per_class):
            raise ValueError(f"per_class must be at least 1, got {self.per_class}")
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, got {self.draws}")

    @property
    def measures(self) -> Sequence[Metric]:
        """An accuracy per number of labels, the first one its own figure."""
        keys = [(f"lowshot_{100 * share:g}pct", f"{100 * share:g} % of labels") for share in self.shares]
        plural = {1: "1 label per class"}
        keys += [(f"lowshot_{n}", plural.get(n, f"{n} labels per class")) for n in self.per_class]
        return [Metric(key, title, main=place == 0) for place, (key, title) in enumerate(keys)]

    def check(self, bank_labels: Tensor) -> None:
        """Refuses classes that cannot give so many labels, and says which settings they can give."""
        found: dict[float, ValueError] = {}
        for value in (*self.shares, *self.per_class):
            try:
                self._draw(bank_labels, value, 0)
            except ValueError as error:
                found[value] = error
        if not found:
            return
        asked = {"shares": self.shares, "per_class": self.per_class}
        left = {key: [value for value in values if value not in found] for key, values in asked.items()}
        if not any(left.values()):
            left["per_class"] = [1]
        keys = [key for key in asked if list(asked[key]) != left[key]]
        cure = " ".join(f"evaluation.lowshot.{key}={left[key]}".replace(" ", "") for key in keys)
        first = next(iter(found.values()))
        raise ValueError(f"lowshot.{keys[0]}: {first}; every class has labels enough for {cure}") from first

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Means and standard deviations; in the details each draw's accuracy and C."""
        f, values, details = subject.features, dict[str, float](), {}
        wanted = zip(self.measures, [*self.shares, *self.per_class], strict=True)
        runs = [(measure.key, value, seed) for measure, value in wanted for seed in range(self.draws)]
        found: dict[str, list[dict[str, float]]] = {key: [] for key, *_ in runs}
        for key, value, seed in progress(runs, f"{subject.title}: few labels", len(runs)):
            picks = self._draw(f.bank_labels, value, seed)
            labels = f.bank_labels[picks]
            few = int(labels.unique(return_counts=True)[1].min()) < _TO_CHOOSE
            result = logistic_probe(
                f.bank[picks],
                labels,
                f.queries,
                f.query_labels,
                f.num_classes,
                cs=(1.0,) if few else STRENGTHS,
                seed=seed,
                device=subject.device,
                title="choosing C",
            )
            found[key].append({"labels": len(picks), "accuracy": result.accuracy, "c": result.c})
        for key, draws in found.items():
            values |= spread(key, [each["accuracy"] for each in draws])
            details[key] = draws
        return Scores(values, details)

    def _draw(self, labels: Tensor, value: float, seed: int) -> Tensor:
        if isinstance(value, int):
            return few_labels(labels, value, seed)
        return share_of_labels(labels, value, seed)
