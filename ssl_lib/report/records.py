"""Data of a run that the report shows: the content of its files, and the observations made with its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from torch import Tensor

from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.doctor import Doctor
from ssl_lib.errors import DataError
from ssl_lib.report.formats import class_name
from ssl_lib.runs.folder import RunFolder
from ssl_lib.runs.results import Evaluation

__all__ = [
    "Missing",
    "Observed",
    "PictureTable",
    "Run",
    "image_title",
    "observed_runs",
    "read_evaluation",
    "read_metrics",
    "read_part",
    "values_of",
]

Content = TypeVar("Content")
Table: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Missing:
    """Why a part of the report is missing and how to fix it, in one line."""

    reason: str


@dataclass(frozen=True)
class PictureTable:
    """Images by name, and a picture of each image per column, all uint8 (C, H, W)."""

    names: Sequence[str]
    images: Sequence[Tensor]
    columns: Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True)
class Observed:
    """Features of a sample of images and what the report derives from them.

    Attributes:
        steps: Training steps of the weights.
        sample: The images as fed to the encoder, before normalization.
        source: Description of the sample, for example `1,000 test images`.
        features: Features, float32 (N, D), by subject (`raw pixels`, `random init`, `trained`).
        places: Features projected to the plane, (N, 2), by subject.
        projection: Name of the projection, for example `UMAP`.
        neighbors: Indices in the sample of each image's nearest neighbors, nearest first, (N, k), by subject.
        views: Augmented views of training images.
        tokens: Patch tokens as colors and attention of the CLS token, if the encoder has patch tokens.
    """

    steps: int
    sample: ArrayData
    source: str
    features: Mapping[str, Tensor]
    places: Mapping[str, Tensor]
    projection: str
    neighbors: Mapping[str, Tensor]
    views: PictureTable | Missing
    tokens: PictureTable | Missing


@dataclass(frozen=True)
class Run:
    """A run to report on: the content of its files, and the observations made with its weights."""

    name: str
    folder: Path
    config: Table | Missing
    metrics: Sequence[Table] | Missing
    evaluation: Evaluation | Missing
    diagnosis: Doctor | Missing
    environment: Table | Missing
    observed: Observed | Missing


def image_title(sample: ArrayData, index: int) -> str:
    """Returns the class name of an image of a sample, or its number if there are no labels."""
    return f"image {index}" if sample.labels is None else class_name(sample.class_names, int(sample.labels[index]))


def observed_runs(runs: Sequence[Run]) -> list[tuple[int, Run, Observed]]:
    """Returns number, run and observations of the runs that have observations."""
    return [(number, run, run.observed) for number, run in enumerate(runs) if isinstance(run.observed, Observed)]


def values_of(metrics: Sequence[Table], name: str) -> tuple[list[float], list[float]]:
    """Returns the steps at which a metric was logged, and its values."""
    logged = [(line["step"], line[name]) for line in metrics if isinstance(line.get(name), int | float)]
    return [step for step, _ in logged], [value for _, value in logged]


def read_metrics(folder: Path) -> Sequence[Table] | Missing:
    """Reads the lines of metrics.jsonl, except a last line that a killed process left incomplete."""
    absent = "There is no metrics.jsonl. Train with `ssl-lib train`, or add the callback MetricsLog to the Trainer."
    lines = read_part(RunFolder(folder).metrics, absent)
    return lines or Missing(
        "metrics.jsonl is empty: the run stopped before it logged metrics. Lower trainer.log_every to log them sooner."
    )


def read_evaluation(path: Path) -> Evaluation | Missing:
    """Reads the results in a file that `ssl-lib evaluate` wrote."""
    absent = f"There is no {path.name}. Run `ssl-lib evaluate RUN` on labeled images to create it."
    saved = read_part(lambda: RunFolder(path.parent).evaluation(path.name), absent)
    return saved if isinstance(saved, Missing) else Evaluation.of(*saved)


def read_part(read: Callable[[], Content | None], absent: str) -> Content | Missing:
    """Calls `read`; a damaged file gives `Missing` with the error, a missing file gives `Missing` with `absent`."""
    try:
        content = read()
    except DataError as error:
        return Missing(f"{error}.")
    return Missing(absent) if content is None else content
