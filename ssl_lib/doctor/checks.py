"""What is seen in the figures of a run: each check says so in words, or None where all is well or unknown yet."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from ssl_lib.doctor.figures import FIGURES
from ssl_lib.doctor.history import History

__all__ = [
    "Check",
    "alike_from_the_start",
    "at_rest",
    "barely_moving",
    "blown_up",
    "growing",
    "one_prototype",
    "pinned",
    "stays",
    "to_a_point",
]

Check = Callable[[History], str | None]

_ENDS = slice(3), slice(-3, None)
"""The first and the last lines."""

_SETTLED = 50
"""Updates in which a center of momentum 0.9 has long forgotten where it began."""


def _bound(history: History, name: str, side: str) -> float:
    """The healthy value of a figure that is not to be passed."""
    healthy = FIGURES[name].healthy(history.facts)
    assert healthy is not None, name
    return healthy[0] if side == "below" else healthy[1]


def stays(name: str, side: str, lines: int, after_epochs: float = 0.0, after_steps: int = 0) -> Check:
    """Sees a figure whose median over the last lines is outside its healthy range, on one side."""

    def check(history: History) -> str | None:
        values, bound = history.last(name, lines), _bound(history, name, side)
        if not values or history.epochs < after_epochs or history.step < after_steps:
            return None
        middle = median(values)
        if not (middle < bound if side == "below" else middle > bound):
            return None
        return f"{name} is {middle:.3g} in the last {lines} lines, {side} {bound:.3g}"

    return check


def to_a_point(history: History) -> str | None:
    """Embeddings of one direction, or that have drawn together from where they were at first."""
    alike = stays("feature_std", "below", 3)(history)
    stds, norms = history.all("feature_std"), history.all("embedding_norm")
    if alike is not None or len(stds) < 6:
        return alike
    first, last = ([std * norm for std, norm in zip(stds[part], norms[part], strict=True)] for part in _ENDS)
    if max(last) >= 0.1 * max(first):
        return None
    return f"feature_std times embedding_norm has fallen from {max(first):.2g} to {max(last):.2g}"


def one_prototype(history: History) -> str | None:
    """A batch whose images all choose the same prototype, when the center has had the time to move."""
    usage, facts = history.last("prototype_usage", 5), history.facts
    if not usage or facts.prototypes is None or facts.rows is None or history.epochs < 1 or history.step < _SETTLED:
        return None
    chosen = median(usage) * min(facts.prototypes, facts.rows)
    return (
        f"of {facts.prototypes} prototypes, {chosen:.0f} is chosen by all images of a batch" if chosen < 1.5 else None
    )


def pinned(history: History) -> str | None:
    """The loss of chance, level over the last epoch; the softer the assignments, the less it could have fallen."""
    chance, losses = history.facts.chance_loss, history.of_last_epoch("loss")
    if chance is None or len(losses) < 4:
        return None
    softness = history.last("assignment_entropy", 1)
    near = 0.1 * chance * (1 - softness[0]) if softness else 0.02 * chance
    half = len(losses) // 2
    fall = abs(median(losses[:half]) - median(losses[half:]))
    if max(abs(loss - chance) for loss in losses) > near or fall > 0.005 * chance:
        return None
    return f"the loss is {median(losses):.4g} all through an epoch, that of chance is {chance:.4g}"


def alike_from_the_start(history: History) -> str | None:
    """Two views as near as copies of one another, before the network can have learned it."""
    first = history.all("view_distance")
    if len(first) != 3 or max(first) > 0.03:
        return None
    if min(history.last("feature_std", 3)) < _bound(history, "feature_std", "below"):
        return None
    return f"view_distance is {median(first):.2g} from the first lines on: the views of an image hardly differ"


def blown_up(history: History) -> str | None:
    """An update as large as a good part of the weights, or weights several times as large within two epochs."""
    ratio, high = history.all("update_ratio")[-1:], _bound(history, "update_ratio", "above")
    if ratio and ratio[0] > high:
        return f"update_ratio is {ratio[0]:.2g}, above {high:.2g}"
    now, first = history.all("weight_rms")[-1:], history.facts.weight_rms
    if now and first and history.epochs <= 2 and now[0] > 3 * first:
        return f"weight_rms has grown from {first:.2g} to {now[0]:.2g} within {history.epochs:.1f} epochs"
    return None


def growing(history: History) -> str | None:
    """Embeddings far longer than at first."""
    norms, last = history.all("embedding_norm"), history.last("embedding_norm", 3)
    if len(norms) < 6 or not min(last) > 10 * median(norms[:3]):
        return None
    return f"embedding_norm is {median(last):.3g}, at first it was {median(norms[:3]):.3g}"


def barely_moving(history: History) -> str | None:
    """No update so far, the learning rate's peak included, that mattered."""
    ratios, low = history.all("update_ratio"), _bound(history, "update_ratio", "below")
    if len(ratios) < 5 or history.epochs < 1 or any(ratio >= low for ratio in ratios):
        return None
    return f"update_ratio was {max(ratios):.2g} at most, below {low:.2g}"


def at_rest(history: History) -> str | None:
    """A teacher that goes less than a tenth of the way to its student in the whole run, as its momentum stands."""
    momenta, total = history.all("teacher_momentum"), history.facts.total_steps
    if len(momenta) < 3 or history.step > 0.8 * total or any((1 - m) * total > 0.1 for m in momenta):
        return None
    return f"teacher_momentum is {min(momenta):.6g}: in {total} updates the teacher hardly leaves its random start"
