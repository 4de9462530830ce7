"""DataLoader worker processes that read and crop whole batches of images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ssl_lib.data.base import ImageData, ImageDataset, SkipImage, image_name
from ssl_lib.data.worker_errors import check_main_guard, worker_crashes
from ssl_lib.distributed import local_world_size
from ssl_lib.distributed.signals import leave_signals_to_parent
from ssl_lib.errors import DataError
from ssl_lib.utils.seeding import seeded_generator

if TYPE_CHECKING:
    from ssl_lib.views import ViewPipeline

__all__ = [
    "CropBatches",
    "EvaluationBatches",
    "ReadBatch",
    "WorkerPool",
    "read_next",
    "start_worker",
]

Fitted = TypeVar("Fitted")

Request: TypeAlias = tuple[int, list[int]]
"""The epoch and the image indices of a batch. Workers are stateless: they receive nothing else."""


class ReadBatch(NamedTuple):
    """Result of a worker: one tensor per view, the indices of the images read, and the skipped files."""

    images: tuple[Tensor, ...]
    indices: Tensor
    skipped: list[str]


class CropBatches(Dataset[ReadBatch | DataError]):
    """Training batches: every image is cropped for each view, with a generator seeded by (seed, epoch, index).

    An image that raises SkipImage is replaced by the next readable image. A DataError is returned, not raised, because
    DataLoader would bury its message in the traceback of a worker.
    """

    def __init__(self, data: ImageData, views: ViewPipeline, seed: int) -> None:
        self.data, self.views, self.seed = data, views, seed

    def __getitem__(self, request: Request) -> ReadBatch | DataError:
        epoch, indices = request
        crops, read, skipped = [], [], list[str]()
        try:
            _prepare(self.data, indices)
            for index in indices:
                image, position = read_next(self.data, index, skipped)
                crop = partial(self.views.crop, generator=seeded_generator("crops", self.seed, epoch, index))
                crops.append(_fitted(self.data, position, image, crop))
                read.append(position)
        except DataError as error:
            return error
        return ReadBatch(_stack(crops), torch.tensor(read), skipped)


def _fitted(data: ImageData, index: int, image: Tensor, function: Callable[[Tensor], Fitted]) -> Fitted:
    """Crops or arranges an image; an error names it."""
    try:
        return function(image)
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{image_name(data, index)}: {error}") from error


def read_next(data: ImageData, index: int, skipped: list[str]) -> tuple[Tensor, int]:
    """Returns the image at `index`, or the next one that does not raise SkipImage, and its index."""
    for offset in range(len(data)):
        position = (index + offset) % len(data)
        try:
            return data.read(position), position
        except SkipImage as error:
            skipped.append(error.path)
    raise DataError(f"none of the {len(data)} images can be read; the first tried was {skipped[0]}")


class EvaluationBatches(Dataset[ReadBatch | DataError]):
    """Evaluation batches of arranged images, see `Preprocessing`. An image that raises SkipImage is left out."""

    def __init__(self, data: ImageData, arrange: Callable[[Tensor], Tensor]) -> None:
        self.data, self.arrange = data, arrange

    def __getitem__(self, request: Request) -> ReadBatch | DataError:
        images, read, skipped = [], [], list[str]()
        try:
            _prepare(self.data, request[1])
            for index in request[1]:
                try:
                    images.append((_fitted(self.data, index, self.data.read(index), self.arrange),))
                except SkipImage as error:
                    skipped.append(error.path)
                else:
                    read.append(index)
        except DataError as error:
            return error
        return ReadBatch(_stack(images), torch.tensor(read, dtype=torch.int64), skipped)


class WorkerPool:
    """Persistent worker processes that read the requested batches in order. They end with this object.

    Args:
        batches: `CropBatches` or `EvaluationBatches`.
        count: Number of workers. 0 reads in this process; None is this process's part of the CPUs, at most 8.
        most: Largest number of batches per call of `read`; an upper bound for the number of workers.
        skipped: List to which the skipped files are added, each once.

    Raises:
        ValueError: `count` is negative.
    """

    def __init__(
        self, batches: CropBatches | EvaluationBatches, count: int | None, most: int, skipped: list[str]
    ) -> None:
        count = min(8, max(1, _cpu_count() // local_world_size())) if count is None else count
        if count < 0:
            raise ValueError(f"workers must be 0 or more, got {count}")
        self.skipped = skipped
        self._requests = _Requests()
        self._loader: DataLoader[Any] = DataLoader(
            batches,
            batch_size=None,
            sampler=self._requests,
            num_workers=min(count, most),
            collate_fn=_identity,
            worker_init_fn=start_worker,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=min(count, most) > 0,
            generator=torch.Generator(),  # otherwise DataLoader draws a seed from the global generator
        )

    def read(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[ReadBatch]:
        """Yields the batches with these indices, in order.

        Raises:
            DataError: An image cannot be read, or a worker was killed.
            RuntimeError: Another epoch was started in the meantime. The workers read one epoch at a time.
        """
        with worker_crashes():
            yield from self._read(epoch, batches)

    def _read(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[ReadBatch]:
        requests = self._requests.pending = [(epoch, indices.tolist()) for indices in batches]
        if self._loader.num_workers:
            check_main_guard()
        results = iter(self._loader)
        for _ in requests:
            result = next(results, None)
            if result is None or self._requests.pending is not requests:
                raise RuntimeError("two epochs of one Loader are read at the same time: create one Loader for each")
            if isinstance(result, DataError):
                raise result
            self.skipped.extend(sorted(set(result.skipped).difference(self.skipped)))
            yield result


class _Requests(Sampler[Request]):
    """A sampler whose requests can be replaced for each epoch, so that the workers persist."""

    def __init__(self) -> None:
        self.pending: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        return iter(self.pending)

    def __len__(self) -> int:
        return len(self.pending)


def start_worker(_: int) -> None:
    """Initializes a worker process: leaves signals to its parent, and hides errors of a closed connection.

    If the parent fails while it receives a batch, for example because another worker was killed, a thread of
    `multiprocessing.resource_sharer` in this process would print a second traceback.
    """
    leave_signals_to_parent()
    sys.excepthook = _print_unless_disconnected


def _print_unless_disconnected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _prepare(data: ImageData, indices: Sequence[int]) -> None:
    if isinstance(data, ImageDataset):
        data.prepare(indices)


def _stack(items: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(images) for images in zip(*items, strict=True))


def _identity(result: Any) -> Any:
    return result


def _cpu_count() -> int:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
