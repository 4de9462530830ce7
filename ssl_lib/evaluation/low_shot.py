"""Low-shot evaluation: logistic regression on frozen features with few labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ssl_lib.evaluation.base import EvaluatedEncoder, Scores, check_at_least
from ssl_lib.evaluation.classification import class_sizes, few_labels, share_of_labels, spread
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
        check_at_least(1, self, "draws")

    @property
    def measures(self) -> Sequence[Metric]:
        """An accuracy per number of labels; the first one is the main metric."""
        keys = [(f"lowshot_{100 * share:g}pct", f"{100 * share:g} % of labels") for share in self.shares]
        keys += [(f"lowshot_{n}", f"{n} label{'s' * (n > 1)} per class") for n in self.per_class]
        return [Metric(key, title, main=place == 0) for place, (key, title) in enumerate(keys)]

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError if a class has too few labels; the message lists the settings that work."""
        try:
            for value in (*self.shares, *self.per_class):
                self._draw(bank_labels, value, seed=0)
        except ValueError as error:
            least = min(class_sizes(bank_labels).values())
            shares = [share for share in self.shares if round(share * least) >= 1]
            per_class = [count for count in self.per_class if count <= least] or [1] * (not shares)
            fix = f"evaluation.lowshot.shares={shares} evaluation.lowshot.per_class={per_class}".replace(", ", ",")
            raise ValueError(f"lowshot: {error}; every class has enough labels for {fix}") from error

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Returns means and standard deviations; the details hold the accuracy and C of each draw."""
        f, values, details = subject.features, dict[str, float](), {}
        for measure, value in zip(self.measures, [*self.shares, *self.per_class], strict=True):
            draws = []
            for seed in progress(range(self.draws), f"{subject.title}: {measure.title}"):
                picks = self._draw(f.bank_labels, value, seed)
                labels = f.bank_labels[picks]
                result = logistic_probe(
                    f.bank[picks],
                    labels,
                    f.queries,
                    f.query_labels,
                    f.num_classes,
                    cs=(1.0,) if min(class_sizes(labels).values()) < _MIN_TO_SELECT else STRENGTHS,
                    seed=seed,
                    device=subject.device,
                    title="selecting C",
                )
                draws.append({"labels": len(picks), "accuracy": result.accuracy, "c": result.c})
            values |= spread(measure.key, [each["accuracy"] for each in draws])
            details[measure.key] = draws
        return Scores(values, details)

    def _draw(self, labels: Tensor, value: float, seed: int) -> Tensor:
        if isinstance(value, int):
            return few_labels(labels, value, seed)
        return share_of_labels(labels, value, seed)
