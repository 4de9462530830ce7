"""What the features tell about themselves, without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ssl_lib.evaluation.alignment import alignment, feature_std, uniformity, view_distance
from ssl_lib.evaluation.base import Measure, Scores, Subject, draw
from ssl_lib.evaluation.features import view_features
from ssl_lib.evaluation.spectrum import alpha_req, effective_rank, lidar, rankme
from ssl_lib.registry import PROTOCOLS

__all__ = ["Spectrum"]


@PROTOCOLS.register("spectrum")
@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """How many directions the training images' features use, how evenly they spread, how near an image's views are.

    Each figure is a function of its own, with its source: `rankme`, `effective_rank`, `alpha_req`, `feature_std`,
    `uniformity`; and of the run's own large views, where they are known, `lidar`, `alignment` and `view_distance`.

    Attributes:
        images: Training images to take at most, always the same ones.
        view_images: Of those, to make views of at most; LiDAR's paper takes 1,000. 0 makes no views.
        views: Of each, at least 2; LiDAR's paper takes 50.
        seed: Of the views.
    """

    images: int = 10_000
    view_images: int = 1000
    views: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("images", 2), ("view_images", 0), ("views", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    @property
    def measures(self) -> Sequence[Measure]:
        """RankMe is its own figure."""
        figures = [
            Measure("rankme", "RankMe", percent=False),
            Measure("effective_rank", "effective rank", percent=False, main=False),
            Measure("alpha_req", "alpha-ReQ", percent=False, main=False, digits=2),
            Measure("feature_std", "feature std", percent=False, main=False, digits=4),
            Measure("uniformity", "uniformity", percent=False, main=False, digits=2),
        ]
        of_views = [
            Measure("lidar", "LiDAR", percent=False, main=False),
            Measure("alignment", "alignment of views", percent=False, main=False, digits=3),
            Measure("view_distance", "distance of views", percent=False, main=False, digits=3),
        ]
        return [*figures, *(of_views if self.view_images else [])]

    def check(self, bank_labels: Tensor) -> None:
        """Refuses a single image."""
        if len(bank_labels) < 2:
            raise ValueError("spectrum needs two training images at least")

    def __call__(self, subject: Subject) -> Scores:
        """The figures; an alpha-ReQ without an end, of features in one direction, is left out."""
        bank = subject.features.bank
        x = bank if (chosen := draw(len(bank), self.images)) is None else bank[chosen]
        x = x.to(subject.device)
        measured = (rankme, effective_rank, alpha_req, feature_std, uniformity)
        values = {measure.__name__: measure(x) for measure in measured}
        details: dict[str, int] = {"images": len(x), "dim": x.shape[1]}
        if subject.views is not None and self.view_images:
            of_views = self._of_views(subject)
            details |= {"view_images": of_views.shape[0], "views": of_views.shape[1]}
            if len(of_views) > 1:
                pair = of_views[:, 0], of_views[:, 1]
                values |= {"lidar": lidar(of_views), "alignment": alignment(*pair)}
                values["view_distance"] = view_distance(*pair)
        return Scores({key: value for key, value in values.items() if math.isfinite(value)}, details)

    def _of_views(self, subject: Subject) -> Tensor:
        """(images, views, D)."""
        assert subject.views is not None
        places = subject.bank_places
        chosen = draw(len(places), self.view_images)
        return view_features(
            subject.encoder,
            subject.bank,
            subject.views,
            self.views,
            indices=places if chosen is None else places[chosen],
            seed=self.seed,
            title=f"{subject.title}: views",
        ).to(subject.device)
