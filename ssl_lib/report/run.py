"""What is known of a run, each part either there or missing with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.doctor import Doctor
from ssl_lib.evaluation import Results

__all__ = ["Evaluation", "Missing", "Observed", "Run", "TokenMaps", "ViewGrid"]


@dataclass(frozen=True)
class Missing:
    """Why a part of a report is not there, and the cure, in one line."""

    reason: str


@dataclass(frozen=True)
class Evaluation:
    """What evaluation.json holds: the results, the number of test images, the updates by then, the classes' names."""

    results: Results
    queries: int | None
    steps: int | None
    classes: Sequence[str] = ()


@dataclass(frozen=True)
class ViewGrid:
    """Images, uint8 (C, H, W) each, and by the views' names each image's view."""

    originals: Sequence[Tensor]
    views: Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True)
class TokenMaps:
    """What a vision transformer makes of the patches of some images, as pictures.

    Attributes:
        indices: The images, by their places in the sample (N).
        maps: By subject, the patch tokens as colors, uint8 (N, 3, h, w).
        attention: By subject, how much the CLS token heeds each patch, uint8 (N, 1, h, w).
    """

    indices: Sequence[int]
    maps: Mapping[str, Tensor]
    attention: Mapping[str, Tensor]


@dataclass(frozen=True)
class Observed:
    """What the weights make of some images.

    Attributes:
        steps: Updates trained.
        sample: The images, as the encoder sees them.
        source: What they are, such as `1,000 test images`.
        features: By subject (`raw pixels`, `random init`, `trained`), float32 (N, D).
        places: By subject, positions in the plane (N, 2).
        projection: How those were found, such as `UMAP`.
        neighbors: By subject, the positions in the sample of the images nearest to each, the nearest first (N, k).
        views: The augmentation.
        tokens: Where the encoder has patch tokens.
    """

    steps: int
    sample: ArrayData
    source: str
    features: Mapping[str, Tensor]
    places: Mapping[str, Tensor]
    projection: str
    neighbors: Mapping[str, Tensor]
    views: ViewGrid | Missing
    tokens: TokenMaps | Missing


Table: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A run to report on: what its files say, and what its weights make of its images."""

    name: str
    folder: Path
    config: Table | Missing
    metrics: Sequence[Table] | Missing
    evaluation: Evaluation | Missing
    diagnosis: Doctor | Missing
    environment: Table | Missing
    observed: Observed | Missing
