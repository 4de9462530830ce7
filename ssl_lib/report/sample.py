"""Which images are looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lib.data import ImageData, evaluation_batches
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.errors import DataError

__all__ = ["draw_sample", "one_per_class"]

_IMAGES, _CLASSES = 1000, 20


def draw_sample(data: ImageData, shown: Preprocessing, workers: int | None) -> tuple[ArrayData, int | None]:
    """A sample in memory, always the same; of data with many classes it is of some, whose number is told."""
    generator = torch.Generator().manual_seed(0)
    chosen, limit = torch.randperm(len(data), generator=generator), None
    if data.labels is not None:
        classes = data.labels.unique()
        if len(classes) > _CLASSES:
            limit = _CLASSES
            some = classes[torch.randperm(len(classes), generator=generator)[:limit]]
            chosen = chosen[torch.isin(data.labels[chosen], some)]
    places = chosen[:_IMAGES].sort().values
    batches = list(evaluation_batches(data, 256, shown.size, workers, places, shown.resize))
    if not batches:
        raise DataError("no image can be read")
    images = torch.cat([batch.images for batch in batches if isinstance(batch.images, Tensor)])
    labels = None if data.labels is None else data.labels[torch.cat([batch.indices for batch in batches])]
    return ArrayData(images, labels, data.class_names, data.mean, data.std), limit


def one_per_class(labels: Tensor | None, count: int, most: int) -> list[int]:
    """The first image of each class, or evenly spaced ones."""
    if labels is None:
        most = min(most, count)
        return [index * count // most for index in range(most)]
    return [int((labels == label).nonzero()[0]) for label in labels.unique()[:most]]
