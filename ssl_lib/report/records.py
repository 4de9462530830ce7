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
from ssl_lib.evaluation import Results
from ssl_lib.report.formats import class_name, number_of
from ssl_lib.runs.folder import RunFolder

__all__ = [
    "Evaluation",
    "Missing",
    "Observed",
    "Run",
    "TokenMaps",
    "ViewGrid",
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
class Evaluation:
    """The content of evaluation.json: number of test images, training steps of the weights, class names by label."""

    results: Results
    queries: int | None
    steps: int | None
    classes: Sequence[str] = ()


@dataclass(frozen=True)
class ViewGrid:
    """Images, uint8 (C, H, W), and their augmented views: one view per image, by the view's name."""

    originals: Sequence[Tensor]
    views: Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True)
class TokenMaps:
    """Pictures of N images of the sample, by subject: patch tokens as colors, and attention of the CLS token.

    The maps are uint8 (N, 3, h, w), the attention is uint8 (N, 1, h, w).
    """

    indices: Sequence[int]
    maps: Mapping[str, Tensor]
    attention: Mapping[str, Tensor]

    @property
    def columns(self) -> dict[str, Tensor]:
        """All pictures by title."""
        kinds = {"patch tokens": self.maps, "attention": self.attention}
        return {f"{kind}, {subject}": of[subject] for kind, of in kinds.items() for subject in of}


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
        tokens: Token maps, if the encoder has patch tokens.
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

    def name_of(self, index: int) -> str:
        """Returns the class name of an image of the sample, or its number if there are no labels."""
        labels, names = self.sample.labels, self.sample.class_names
        return f"image {index}" if labels is None else class_name(names, int(labels[index]))


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


def observed_runs(runs: Sequence[Run]) -> list[tuple[int, Run, Observed]]:
    """Returns number, run and observations of the runs that have observations."""
    return [(number, run, run.observed) for number, run in enumerate(runs) if isinstance(run.observed, Observed)]


def values_of(metrics: Sequence[Table], name: str) -> tuple[list[float], list[float]]:
    """Returns the steps at which a metric was logged, and its values."""
    pairs = [(number_of(line.get("step", index)), number_of(line.get(name))) for index, line in enumerate(metrics)]
    valid = [(step, value) for step, value in pairs if step is not None and value is not None]
    return [step for step, _ in valid], [value for _, value in valid]


def read_metrics(folder: Path) -> Sequence[Table] | Missing:
    """Reads the lines of metrics.jsonl, except a last line that a killed process left incomplete."""
    lines = read_part(
        RunFolder(folder).metrics,
        "There is no metrics.jsonl. Train with `ssl-lib train`, or add the callback MetricsLog to the Trainer.",
    )
    return lines or Missing(
        "metrics.jsonl is empty: the run stopped before it logged metrics. Lower trainer.log_every to log them sooner."
    )


def read_evaluation(path: Path) -> Evaluation | Missing:
    """Reads the results in a file that `ssl-lib evaluate` wrote."""
    saved = read_part(
        lambda: RunFolder(path.parent).evaluation(path.name),
        f"There is no {path.name}. Run `ssl-lib evaluate RUN` on labeled images to create it.",
    )
    if isinstance(saved, Missing):
        return saved
    content, results = saved
    images, classes = content.get("images"), content.get("classes")
    queries = images.get("queries") if isinstance(images, dict) else None
    names = list(map(str, classes)) if isinstance(classes, list) else []
    return Evaluation(results, queries if isinstance(queries, int) else None, content["steps"], names)


def read_part(read: Callable[[], Content | None], absent: str) -> Content | Missing:
    """Calls `read`; a damaged file gives `Missing` with the error, a missing file gives `Missing` with `absent`."""
    try:
        content = read()
    except DataError as error:
        return Missing(f"{error}.")
    return Missing(absent) if content is None else content
