"""What runs in worker processes: whole batches of images read and cropped."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ssl_lib.data.base import ImageData, ImageDataset, SkipImage
from ssl_lib.data.preprocessing import resize_and_crop
from ssl_lib.data.worker_errors import worker_crashes
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
    "start_worker",
]

Request: TypeAlias = tuple[int, list[int]]
"""The epoch and the indices of a batch; all that a worker is told, so that it holds no state."""


class ReadBatch(NamedTuple):
    """A worker's answer: one tensor per view, the indices really read, the files skipped."""

    images: tuple[Tensor, ...]
    indices: Tensor
    skipped: list[str]


class CropBatches(Dataset[ReadBatch | DataError]):
    """Batches for training: every image cropped for each view by a generator seeded with (seed, epoch, index).

    An image that asks to be skipped is replaced by the next readable one. A DataError is returned, not raised, as
    DataLoader would bury its message in a worker's traceback.
    """

    def __init__(self, data: ImageData, views: ViewPipeline, seed: int) -> None:
        self.data, self.views, self.seed = data, views, seed

    def __getitem__(self, request: Request) -> ReadBatch | DataError:
        epoch, indices = request
        crops, read, skipped = [], [], list[str]()
        try:
            _prepare(self.data, indices)
            for index in indices:
                image, found = self._read(index, skipped)
                crops.append(self.views.crop(image, seeded_generator("crops", self.seed, epoch, index)))
                read.append(found)
        except DataError as error:
            return error
        return ReadBatch(_stack(crops), torch.tensor(read), skipped)

    def _read(self, index: int, skipped: list[str]) -> tuple[Tensor, int]:
        for offset in range(len(self.data)):
            found = (index + offset) % len(self.data)
            try:
                return self.data.read(found), found
            except SkipImage as error:
                skipped.append(error.path)
        raise DataError(f"none of the {len(self.data)} images can be read; the first tried was {skipped[0]}")


class EvaluationBatches(Dataset[ReadBatch | DataError]):
    """Batches in order, see `resize_and_crop`; an image that asks to be skipped is left out."""

    def __init__(self, data: ImageData, size: int, shorter_side: int | None = None) -> None:
        self.data, self.size, self.shorter_side = data, size, shorter_side

    def __getitem__(self, request: Request) -> ReadBatch | DataError:
        images, read, skipped = [], [], list[str]()
        try:
            _prepare(self.data, request[1])
            for index in request[1]:
                try:
                    images.append((resize_and_crop(self.data.read(index), self.size, self.shorter_side),))
                except SkipImage as error:
                    skipped.append(error.path)
                else:
                    read.append(index)
        except DataError as error:
            return error
        return ReadBatch(_stack(images), torch.tensor(read, dtype=torch.int64), skipped)


class WorkerPool:
    """Worker processes that live until this object does and read the batches they are asked for, in order.

    Args:
        batches: `CropBatches` or `EvaluationBatches`.
        count: Number of processes; 0 reads in this one, None is this process's part of the CPUs, at most 8.
        most: Number of batches that will be asked for at once; there are no more processes than that.
        skipped: Where skipped files are entered, each once.

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
            collate_fn=_as_it_is,
            worker_init_fn=start_worker,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=min(count, most) > 0,
            generator=torch.Generator(),  # or else DataLoader draws a seed from the global one
        )

    def read(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[ReadBatch]:
        """Yields the batches of these indices, in their order.

        Raises:
            DataError: An image cannot be read, or a process was killed.
            RuntimeError: Another epoch was begun meanwhile: the processes read for one at a time.
        """
        with worker_crashes():
            yield from self._read(epoch, batches)

    def _read(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[ReadBatch]:
        mine = self._requests.pending = [(epoch, indices.tolist()) for indices in batches]
        results = iter(self._loader)
        for _ in mine:
            result = next(results, None)
            if result is None or self._requests.pending is not mine:
                raise RuntimeError("two epochs of one Loader are read at once: make a Loader for each")
            if isinstance(result, DataError):
                raise result
            self.skipped.extend(sorted(set(result.skipped).difference(self.skipped)))
            yield result


class _Requests(Sampler[Request]):
    """A sampler that can be told anew for each epoch, so that the workers persist."""

    def __init__(self) -> None:
        self.pending: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        return iter(self.pending)

    def __len__(self) -> int:
        return len(self.pending)


def start_worker(_: int) -> None:
    """What a worker process does first: it leaves signals to its parent, and is silent where that hangs up.

    A parent that an error ends while it takes a batch, such as that of another worker, makes a thread of
    `multiprocessing.resource_sharer` here print a traceback beside the error.
    """
    leave_signals_to_parent()
    sys.excepthook = _print_unless_hung_up


def _print_unless_hung_up(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _prepare(data: ImageData, indices: Sequence[int]) -> None:
    if isinstance(data, ImageDataset):
        data.prepare(indices)


def _stack(items: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(images) for images in zip(*items, strict=True))


def _as_it_is(result: Any) -> Any:
    return result


def _cpu_count() -> int:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
