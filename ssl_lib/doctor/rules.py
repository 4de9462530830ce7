"""Diagnosis rules: the training problems that the doctor detects, each with a check, likely cause and fix."""

from __future__ import annotations

from dataclasses import dataclass

from ssl_lib.doctor.checks import (
    Check,
    collapsed,
    frozen_teacher,
    growing_embeddings,
    huge_updates,
    identical_views,
    loss_at_chance,
    out_of_range,
    single_prototype,
    tiny_updates,
)

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True)
class Rule:
    """A training problem that the doctor can detect.

    Attributes:
        name: Name of the finding.
        check: Describes the evidence in the metrics; returns None if there is none, or not enough data yet.
        cause: Likely cause.
        cure: How to fix the problem.
        covered_by: Names of findings that explain this one. It is not reported in addition to them.
    """

    name: str
    check: Check
    cause: str
    cure: str
    covered_by: tuple[str, ...] = ()


RULES = (
    Rule(
        "learning rate too high",
        huge_updates,
        "one update changes a large part of the weights",
        "divide optimizer.lr by 10, or use a longer warmup",
    ),
    Rule(
        "learning rate too low",
        tiny_updates,
        "the weights barely change from their initial values",
        "multiply optimizer.lr by 10 or more, and check whether the parameters are frozen",
    ),
    Rule(
        "augmentation too weak",
        identical_views,
        "the views of an image can be matched without learning its content",
        "use stronger crops, color jitter and blur: see `ssl-lib views CONFIG`, and compare with the method's preset",
    ),
    Rule(
        "frozen teacher",
        frozen_teacher,
        "the teacher's momentum is 1, or far too high for the number of updates",
        "lower method.momentum (0.99 for a few thousand updates, less for fewer), or train longer",
    ),
    Rule(
        "racing teacher",
        out_of_range("teacher_momentum", "below", 3),
        "the teacher nearly copies the student, so it is not a more stable target",
        "raise method.momentum to at least 0.9, or to 0.99 and above for long runs",
    ),
    Rule(
        "complete collapse",
        collapsed,
        "all images are mapped to one point, because nothing keeps the embeddings apart",
        "restore what prevents collapse: stop-gradient, predictor, negatives, the variance term or a slow teacher",
        covered_by=("learning rate too high",),
    ),
    Rule(
        "exploding embeddings",
        growing_embeddings,
        "the loss decreases as the embeddings get longer, or the learning rate is too high",
        "normalize the embeddings inside the loss, add weight decay, or lower the learning rate",
        covered_by=("learning rate too high",),
    ),
    Rule(
        "one prototype takes all",
        single_prototype,
        "the teacher's outputs are not centered, or the center follows them too slowly",
        "lower method.center_momentum to 0.9, or raise the teacher's temperature",
        covered_by=("learning rate too high",),
    ),
    Rule(
        "dead prototypes",
        out_of_range("prototype_usage", "below", 5, after_epochs=1, after_steps=50),
        "most prototypes are not the first choice of any image",
        "use fewer prototypes, a larger batch or prototypes of fixed norm, or freeze them for the first epoch "
        "(method.freeze_prototypes)",
        covered_by=("learning rate too high", "one prototype takes all"),
    ),
    Rule(
        "undecided assignments",
        out_of_range("assignment_entropy", "above", 5, after_epochs=1),
        "every image is assigned to all prototypes almost equally: the teacher is not sharp enough, or its outputs are "
        "almost the same for all images",
        "lower method.teacher_temperature to 0.04, or lower the learning rate",
    ),
    Rule(
        "augmentation too strong",
        out_of_range("view_distance", "above", 5, after_epochs=1, after_steps=30),
        "two views of the same image are as different as views of two images",
        "keep more of the image: raise crop_scale, use less color jitter and solarization; see `ssl-lib views CONFIG`",
        covered_by=("learning rate too high", "learning rate too low", "complete collapse"),
    ),
    Rule(
        "dimensional collapse",
        out_of_range("effective_rank", "below", 5, after_epochs=1),
        "the embeddings vary along few directions only: redundancy is not penalized, or the learning rate is too high",
        "raise the covariance or redundancy weight, lower the learning rate, or use a projector with more layers",
        covered_by=(
            "learning rate too high",
            "complete collapse",
            "augmentation too strong",
            "loss pinned at chance",
            "one prototype takes all",
            "undecided assignments",
        ),
    ),
    Rule(
        "loss pinned at chance",
        loss_at_chance,
        "the loss does not distinguish images: the temperature is far too high, or nothing is learned",
        "lower method.temperature (0.1 to 0.5), raise the learning rate, or check the views",
        covered_by=(
            "learning rate too high",
            "learning rate too low",
            "complete collapse",
            "augmentation too strong",
            "one prototype takes all",
            "undecided assignments",
            "dimensional collapse",
        ),
    ),
    Rule(
        "BatchNorm leakage",
        out_of_range("process_gap", "above", 5),
        "embeddings reveal which process computed them: it uses its own batch statistics, or images are not shuffled",
        "synchronize the statistics (sync_batchnorm = True, the default of a method), or shuffle the images",
    ),
)
"""All rules, in the order of checking: a rule that explains others comes before them."""
