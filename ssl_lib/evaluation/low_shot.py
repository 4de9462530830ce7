"""Low-shot evaluation: logistic regression on frozen features with few labels."""

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

_MIN_TO_SELECT = 5  # labels per class needed to hold one out and select C


@PROTOCOLS.register("lowshot")
@dataclass(frozen=True, kw_only=True)
class LowShot:
    """Logistic regression on random subsets of the labeled training images: mean and standard deviation over draws.

    Source: SimCLR for 1 % and 10 % of the labels of every class (Chen et al. 2020, arXiv:2002.05709, section 6,
    table 7); MSN for a few labels per class and for logistic regression on frozen features (Assran et al. 2022,
    arXiv:2204.07141, section 6). `logistic_probe` selects C on a fifth of the subset; C is 1 if a class has fewer than
    five labels. All draws use the same test images.

    Attributes:
        shares: Fractions of the labeled training images of every class, in (0, 1).
        per_class: Numbers of labeled images per class.
        draws: Number of random subsets to average over.
    """

    shares: tuple[float, ...] = (0.01, 0.1)
    per_class: tuple[int, ...] = (1, 5, 10)
    draws: int = 5

    def __post_init__(self) -> None:
        if not self.shares and not self.per_class:
            raise ValueError("shares and per_class are both empty: there is nothing to measure; set at least one")
        if not all(0 < share < 1 for share in self.shares):
            raise ValueError(f"shares must be in (0, 1), got {self.shares}; use the protocol `linear` for all labels")
        if not all(count >= 1 for count in self.per_class):
            raise ValueError(f"per_class must be at least 1, got {self.per_class}")
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, got {self.draws}")

    @property
    def measures(self) -> Sequence[Metric]:
        """An accuracy per number of labels; the first one is the main metric."""
        keys = [(f"lowshot_{100 * share:g}pct", f"{100 * share:g} % of labels") for share in self.shares]
        plural = {1: "1 label per class"}
        keys += [(f"lowshot_{n}", plural.get(n, f"{n} labels per class")) for n in self.per_class]
        return [Metric(key, title, main=place == 0) for place, (key, title) in enumerate(keys)]

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError if a class has too few labels; the message lists the settings that work."""
        failed: dict[float, ValueError] = {}
        for value in (*self.shares, *self.per_class):
            try:
                self._draw(bank_labels, value, 0)
            except ValueError as error:
                failed[value] = error
        if not failed:
            return
        requested = {"shares": self.shares, "per_class": self.per_class}
        left = {key: [value for value in values if value not in failed] for key, values in requested.items()}
        if not any(left.values()):
            left["per_class"] = [1]
        keys = [key for key in requested if list(requested[key]) != left[key]]
        fix = " ".join(f"evaluation.lowshot.{key}={left[key]}".replace(" ", "") for key in keys)
        first = next(iter(failed.values()))
        raise ValueError(f"lowshot.{keys[0]}: {first}; every class has enough labels for {fix}") from first

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Returns means and standard deviations; the details hold the accuracy and C of each draw."""
        f, values, details = subject.features, dict[str, float](), {}
        settings = zip(self.measures, [*self.shares, *self.per_class], strict=True)
        runs = [(measure.key, value, seed) for measure, value in settings for seed in range(self.draws)]
        found: dict[str, list[dict[str, float]]] = {key: [] for key, *_ in runs}
        for key, value, seed in progress(runs, f"{subject.title}: few labels", len(runs)):
            picks = self._draw(f.bank_labels, value, seed)
            labels = f.bank_labels[picks]
            too_few = int(labels.unique(return_counts=True)[1].min()) < _MIN_TO_SELECT
            result = logistic_probe(
                f.bank[picks],
                labels,
                f.queries,
                f.query_labels,
                f.num_classes,
                cs=(1.0,) if too_few else STRENGTHS,
                seed=seed,
                device=subject.device,
                title="selecting C",
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
