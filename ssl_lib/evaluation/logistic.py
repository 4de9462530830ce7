"""Logistic regression probe: multinomial logistic regression on frozen features, trained with L-BFGS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ssl_lib.evaluation.base import EvaluatedEncoder, Scores, check_at_least
from ssl_lib.evaluation.checks import check_labeled
from ssl_lib.evaluation.classification import Standardized, accuracies, class_report, held_out_split
from ssl_lib.evaluation.features import progress
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric
from ssl_lib.utils.rows import float_type, part_rows

__all__ = ["Logistic", "LogisticResult", "logistic_probe", "logistic_regression"]

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class LogisticResult:
    """Accuracies in [0, 1].

    Attributes:
        accuracy: Test accuracy with the C that was best on held-out training images.
        c: The selected C.
        held_out: Held-out accuracy of every C; empty if only one C was given.
        predictions: (M,) predicted classes of the test images, on the CPU.
    """

    accuracy: float
    c: float
    held_out: dict[float, float]
    predictions: Tensor = field(repr=False)


@PROTOCOLS.register("logistic")
@dataclass(frozen=True, kw_only=True)
class Logistic:
    """Multinomial logistic regression with L-BFGS; the inverse regularization C is selected on held-out images.

    Source: CLIP's linear probe (Radford et al. 2021, arXiv:2103.00020, appendix A.3), which also sweeps scikit-learn's
    C; see `logistic_probe`.

    Attributes:
        cs: Values of C to try. Smaller values regularize more strongly; see `logistic_regression`.
        held_out: Fraction of the labeled images held out to select C, in (0, 1).
        max_steps: Maximum number of L-BFGS steps per C.
        seed: Seed for the held-out split.
    """

    cs: tuple[float, ...] = STRENGTHS
    held_out: float = 0.2
    max_steps: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.cs or not min(self.cs) > 0:
            raise ValueError(f"cs must be above 0, got {self.cs}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be in (0, 1), got {self.held_out}")
        check_at_least(1, self, "max_steps")

    @property
    def measures(self) -> Sequence[Metric]:
        """The accuracy of the logistic regression."""
        return [Metric("logistic", "logistic regression")]

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError if no class has two images, so that none can be held out."""
        held_out_split(bank_labels, self.held_out, torch.Generator().manual_seed(self.seed))

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Returns the accuracy; the details hold the selected C, the held-out accuracies and a class report."""
        f = subject.features
        result = logistic_probe(
            f.bank,
            f.bank_labels,
            f.queries,
            f.query_labels,
            f.num_classes,
            cs=self.cs,
            held_out=self.held_out,
            max_steps=self.max_steps,
            seed=self.seed,
            device=subject.device,
            title=f"{subject.title}: logistic",
        )
        report = class_report(result.predictions, f.query_labels, f.num_classes)
        return Scores({"logistic": result.accuracy}, {"c": result.c, "held_out": result.held_out, **report})


def logistic_probe(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    num_classes: int,
    *,
    cs: Sequence[float] = STRENGTHS,
    held_out: float = 0.2,
    max_steps: int = 1000,
    seed: int = 0,
    device: torch.device | None = None,
    title: str = "logistic",
) -> LogisticResult:
    """Selects C on held-out training images, fits a regression with it to all training images and tests it.

    Features are centered and divided by their root mean square (a scalar), so that one sweep fits all backbones.

    Args:
        features: (N, D) of the labeled training images. They stay on their device and are moved chunk by chunk.
        labels: (N,) class indices in [0, num_classes).
        test_features: (M, D).
        test_labels: (M,).
        num_classes: > 1.
        cs: Values of C to try, at least one. With a single value no images are held out.
        held_out: Fraction of every class held out to select C, in (0, 1).
        max_steps: Maximum number of L-BFGS steps per C.
        seed: Seed for the held-out split. The global generator is not used.
        device: Device to compute on; None uses the device of the features.
        title: Title of the progress bar.

    Raises:
        ValueError: Shapes do not match, a feature is NaN or infinite, or there are too few images to hold any out.
    """
    check_labeled(features, labels, test_features)
    scaled = Standardized.by(features, device, num_classes)
    cs, validation, fits = sorted(cs), list[float](), list[Tensor]()
    if len(cs) > 1:
        train, held = held_out_split(labels, held_out, torch.Generator().manual_seed(seed))
        for c in progress(cs, title):  # warm start: each fit begins at the previous solution
            fits.append(_fit(features[train], labels[train], num_classes, c, scaled, max_steps, fits[-1:]))
            validation += accuracies(fits[-1].unsqueeze(0), features[held], labels[held], scaled)[0]
    place = max(range(len(validation)), key=validation.__getitem__, default=0)
    best = cs[place]
    heads = _fit(features, labels, num_classes, best, scaled, max_steps, fits[place : place + 1])
    (accuracy,), predictions = accuracies(heads.unsqueeze(0), test_features, test_labels, scaled)
    return LogisticResult(accuracy, best, dict(zip(cs, validation, strict=False)), predictions[:, 0])


def logistic_regression(
    features: Tensor, labels: Tensor, num_classes: int, c: float = 1.0, max_steps: int = 1000, tolerance: float = 1e-4
) -> tuple[Tensor, Tensor]:
    """Minimizes C times the summed cross-entropy plus half the squared norm of the weights; biases are not penalized.

    The objective is that of scikit-learn's `LogisticRegression(C=c)`: multinomial for three or more classes and binary
    for two. The binary objective penalizes half the squared norm of one weight vector w, the difference of the two
    classes' vectors w / 2 and -w / 2. That is the squared norm of the weights, without the factor of one half. The
    features are not standardized.

    Args:
        features: (N, D).
        labels: (N,) class indices in [0, num_classes).
        num_classes: > 1.
        c: > 0.
        max_steps: Maximum number of L-BFGS steps.
        tolerance: Stops if no partial derivative of the objective, divided by N and C, exceeds this value, like `tol`
            in scikit-learn.

    Returns:
        Weights (num_classes, D) and biases (num_classes,). Of two classes, scikit-learn returns one row: the second
        minus the first.

    Raises:
        ValueError: Shapes do not match, a feature is NaN or infinite, C is not above 0, or the fit does not converge
            because the features are too large.
    """
    check_labeled(features, labels, features)
    if not c > 0:
        raise ValueError(f"c must be above 0, got {c}")
    origin = features.new_zeros(features.shape[1], dtype=float_type(features))
    plain = Standardized(origin, 1.0, part_rows(features, num_classes))
    heads = _fit(features, labels, num_classes, c, plain, max_steps, tolerance=tolerance)
    return heads[:, :-1], heads[:, -1]


def _fit(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    c: float,
    scaled: Standardized,
    max_steps: int,
    start: Sequence[Tensor] = (),
    tolerance: float = 1e-4,
) -> Tensor:
    """Fits a regression (classes, D + 1), the last column being the bias; processes the features chunk by chunk."""
    count, labels = len(features), labels.to(scaled.mean.device)
    blank = scaled.mean.new_zeros(num_classes, features.shape[1] + 1)
    heads = (start[0] if start else blank).clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [heads],
        max_iter=max_steps,
        tolerance_grad=tolerance,
        tolerance_change=1e-9,  # on the step size; float32 may not converge further
        history_size=10,
        line_search_fn="strong_wolfe",
    )
    cached = list(scaled(features)) if count <= scaled.rows else None
    decay = torch.full_like(heads, 2.0 if num_classes == 2 else 1.0) / (c * count)  # binary or multinomial objective
    decay[:, -1] = 0

    @torch.no_grad()
    def objective() -> float:  # divided by C and N, so that step sizes are comparable for all C and N
        gradient = decay * heads
        loss = (gradient * heads).sum().double() / 2
        for x, truth in zip(cached or scaled(features), labels.split(scaled.rows), strict=True):
            scores = (heads @ x.T).log_softmax(0)  # (classes, b) is several times faster than (b, classes) on a CPU
            loss -= scores.gather(0, truth.unsqueeze(0)).sum().double() / count
            residual = scores.exp().scatter_add_(0, truth.unsqueeze(0), scores.new_full((1, len(x)), -1.0))
            gradient += residual @ x / count
        heads.grad = gradient
        return float(loss)

    optimizer.step(objective)
    _check_fit(heads, tolerance)
    return heads.detach()


def _check_fit(heads: Tensor, tolerance: float) -> None:
    """Raises ValueError if the solution overflowed, or if the first step was too short to move from zero."""
    assert heads.grad is not None
    stuck = not heads.any() and bool(heads.grad.abs().max() > tolerance)
    if stuck or not heads.isfinite().all():
        raise ValueError("the logistic regression does not converge: the features are too large, standardize them")
