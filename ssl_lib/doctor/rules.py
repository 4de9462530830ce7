"""What can go wrong with a self-supervised run, each with the figures it shows in, its likely cause and its cure."""

from __future__ import annotations

from dataclasses import dataclass

from ssl_lib.doctor.checks import (
    Check,
    alike_from_the_start,
    at_rest,
    barely_moving,
    blown_up,
    growing,
    one_prototype,
    pinned,
    stays,
    to_a_point,
)

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong.

    Attributes:
        name: Of the finding.
        check: What it sees in the figures, in words; None where all is well or nothing is known yet.
        cause: The likely one.
        cure: What to do about it.
        covered_by: Findings that explain this one, so that it is not told beside them.
    """

    name: str
    check: Check
    cause: str
    cure: str
    covered_by: tuple[str, ...] = ()


RULES = (
    Rule(
        "learning rate too high",
        blown_up,
        "one update rewrites a large part of the weights",
        "divide optimizer.lr by 10, or warm up longer",
    ),
    Rule(
        "learning rate too low",
        barely_moving,
        "the weights stay where they began",
        "multiply optimizer.lr by 10 or more; look whether the parameters are frozen",
    ),
    Rule(
        "augmentation too weak",
        alike_from_the_start,
        "the views of an image can be matched without understanding it",
        "crop, jitter and blur more: see `ssl-lib views CONFIG`, and the preset of the method",
    ),
    Rule(
        "frozen teacher",
        at_rest,
        "the teacher's momentum is 1, or far too high for so few updates",
        "lower method.momentum, to 0.99 for some thousand updates and further for fewer, or train for longer",
    ),
    Rule(
        "racing teacher",
        stays("teacher_momentum", "below", 3),
        "the teacher is a copy of the student, and no steadier a target",
        "raise method.momentum: 0.9 at least, 0.99 and more in long runs",
    ),
    Rule(
        "complete collapse",
        to_a_point,
        "all images are mapped to one point: nothing keeps the embeddings apart",
        "bring back what does: stop-gradient or predictor, the negatives, the variance term, a slow teacher",
        covered_by=("learning rate too high",),
    ),
    Rule(
        "exploding embeddings",
        growing,
        "the loss gains by ever longer embeddings, or the lr is too high",
        "normalize the embeddings inside the loss, add weight decay, lower the lr",
        covered_by=("learning rate too high",),
    ),
    Rule(
        "one prototype takes all",
        one_prototype,
        "the teacher's outputs are not centerd, or the center follows too slowly",
        "lower method.center_momentum to 0.9, raise the teacher's temperature",
        covered_by=("learning rate too high",),
    ),
    Rule(
        "dead prototypes",
        stays("prototype_usage", "below", 5, after_epochs=1, after_steps=50),
        "most prototypes are no image's first choice",
        "take fewer prototypes or a larger batch, fix their norms, freeze them for an epoch (method.freeze_prototypes)",
        covered_by=("learning rate too high", "one prototype takes all"),
    ),
    Rule(
        "undecided assignments",
        stays("assignment_entropy", "above", 5, after_epochs=1),
        "every image is assigned to all prototypes alike: the teacher is not sharp enough, or its outputs are alike",
        "lower method.teacher_temperature to 0.04, lower the lr",
    ),
    Rule(
        "augmentation too strong",
        stays("view_distance", "above", 5, after_epochs=1, after_steps=30),
        "two views of an image have no more in common than views of two images",
        "keep more of the image: raise crop_scale, jitter and solarize less; see `ssl-lib views CONFIG`",
        covered_by=("learning rate too high", "learning rate too low", "complete collapse"),
    ),
    Rule(
        "dimensional collapse",
        stays("effective_rank", "below", 5, after_epochs=1),
        "the embeddings vary along a few directions only: redundancy is not punished, or the lr is too high",
        "raise the covariance or redundancy weight, lower the lr, use a projector of more layers",
        covered_by=(
            *("learning rate too high", "complete collapse", "augmentation too strong", "loss pinned at chance"),
            *("one prototype takes all", "undecided assignments"),
        ),
    ),
    Rule(
        "loss pinned at chance",
        pinned,
        "the loss does not tell images apart: a temperature far too high, or nothing is learned",
        "lower method.temperature (0.1 to 0.5), raise the lr, look at the views",
        covered_by=(
            *("learning rate too high", "learning rate too low", "complete collapse", "augmentation too strong"),
            *("one prototype takes all", "undecided assignments", "dimensional collapse"),
        ),
    ),
    Rule(
        "BatchNorm leakage",
        stays("process_gap", "above", 5),
        "an embedding tells which process made it: batch statistics of its own, or images that are not shuffled",
        "share the statistics (sync_batchnorm = True, the default of a method), shuffle the images",
    ),
)
"""All of them; those that explain others stand before these."""
