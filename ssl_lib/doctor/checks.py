"""Checks of the logged metrics: each returns a description of the problem, or None if it finds none."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from ssl_lib.doctor.figures import FIGURES
from ssl_lib.doctor.history import History

__all__ = [
    "Check",
    "collapsed",
    "frozen_teacher",
    "growing_embeddings",
    "huge_updates",
    "identical_views",
    "loss_at_chance",
    "out_of_range",
    "single_prototype",
    "tiny_updates",
]

Check = Callable[[History], str | None]

_ENDS = slice(3), slice(-3, None)
"""The first three and the last three lines."""

_SETTLED = 50
"""Number of updates after which a center with momentum 0.9 no longer depends on its initial value."""


def _bound(history: History, name: str, side: str) -> float:
    """The lower (`below`) or upper (`above`) limit of the healthy range of a metric."""
    healthy = FIGURES[name].healthy(history.facts)
    assert healthy is not None, name
    return healthy[0] if side == "below" else healthy[1]


def out_of_range(name: str, side: str, lines: int, after_epochs: float = 0.0, after_steps: int = 0) -> Check:
    """Builds a check for a metric whose median over the last lines is `below` or `above` its healthy range."""

    def check(history: History) -> str | None:
        values, bound = history.last(name, lines), _bound(history, name, side)
        if not values or history.epochs < after_epochs or history.step < after_steps:
            return None
        middle = median(values)
        if not (middle < bound if side == "below" else middle > bound):
            return None
        return f"the median of {name} over the last {lines} lines is {middle:.3g}, {side} {bound:.3g}"

    return check


def collapsed(history: History) -> str | None:
    """Embeddings with nearly the same direction, or whose spread has dropped to a tenth of its initial value."""
    problem = out_of_range("feature_std", "below", 3)(history)
    stds, norms = history.all("feature_std"), history.all("embedding_norm")
    if problem is not None or len(stds) < 6:
        return problem
    first, last = ([std * norm for std, norm in zip(stds[part], norms[part], strict=True)] for part in _ENDS)
    if max(last) >= 0.1 * max(first):
        return None
    return f"feature_std times embedding_norm fell from {max(first):.2g} to {max(last):.2g}"


def single_prototype(history: History) -> str | None:
    """All images of a batch choose the same prototype, after the center has had time to adapt."""
    usage, facts = history.last("prototype_usage", 5), history.facts
    if not usage or facts.prototypes is None or facts.rows is None or history.epochs < 1 or history.step < _SETTLED:
        return None
    chosen = median(usage) * min(facts.prototypes, facts.rows)
    return f"all images of a batch choose the same one of {facts.prototypes} prototypes" if chosen < 1.5 else None


def loss_at_chance(history: History) -> str | None:
    """A constant loss at chance level over the last epoch; the tolerance is smaller for softer assignments."""
    chance, losses = history.facts.chance_loss, history.of_last_epoch("loss")
    if chance is None or len(losses) < 4:
        return None
    softness = history.last("assignment_entropy", 1)
    near = 0.1 * chance * (1 - softness[0]) if softness else 0.02 * chance
    half = len(losses) // 2
    fall = abs(median(losses[:half]) - median(losses[half:]))
    if max(abs(loss - chance) for loss in losses) > near or fall > 0.005 * chance:
        return None
    return f"the loss stays at {median(losses):.4g} for an epoch; the loss at chance level is {chance:.4g}"


def identical_views(history: History) -> str | None:
    """Nearly identical views in the first three lines, before the network can have learned invariance."""
    first = history.all("view_distance")
    if len(first) != 3 or max(first) > 0.03:
        return None
    if min(history.last("feature_std", 3)) < _bound(history, "feature_std", "below"):
        return None
    return f"view_distance is {median(first):.2g} in the first 3 lines, so the views of an image are nearly identical"


def huge_updates(history: History) -> str | None:
    """An update whose norm is a large part of the weights' norm, or weights that triple within two epochs."""
    ratio, high = history.all("update_ratio")[-1:], _bound(history, "update_ratio", "above")
    if ratio and ratio[0] > high:
        return f"update_ratio is {ratio[0]:.2g}, above {high:.2g}"
    now, first = history.all("weight_rms")[-1:], history.facts.weight_rms
    if now and first and history.epochs <= 2 and now[0] > 3 * first:
        return f"weight_rms grew from {first:.2g} to {now[0]:.2g} within {history.epochs:.1f} epochs"
    return None


def growing_embeddings(history: History) -> str | None:
    """Embeddings ten times longer than in the first lines."""
    norms, last = history.all("embedding_norm"), history.last("embedding_norm", 3)
    if len(norms) < 6 or not min(last) > 10 * median(norms[:3]):
        return None
    return f"embedding_norm grew from {median(norms[:3]):.3g} to {median(last):.3g}"


def tiny_updates(history: History) -> str | None:
    """Only tiny updates so far, including the peak of the learning rate."""
    ratios, low = history.all("update_ratio"), _bound(history, "update_ratio", "below")
    if len(ratios) < 5 or history.epochs < 1 or any(ratio >= low for ratio in ratios):
        return None
    return f"the highest update_ratio is {max(ratios):.2g}, below {low:.2g}"


def frozen_teacher(history: History) -> str | None:
    """A teacher that moves less than a tenth of the way to its student in the whole run, at its current momentum."""
    momenta, total = history.all("teacher_momentum"), history.facts.total_steps
    if len(momenta) < 3 or history.step > 0.8 * total or any((1 - m) * total > 0.1 for m in momenta):
        return None
    return f"teacher_momentum is {min(momenta):.6g}, so the teacher barely changes in {total} updates"
