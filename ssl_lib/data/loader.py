"""Data loaders with a reproducible order: shuffled batches for training, ordered batches for evaluation."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_lib.data.base import ImageData
from ssl_lib.data.center_crop import resize_and_crop
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.datasets.wrapped import as_image_data
from ssl_lib.data.fingerprint import fingerprint
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.data.workers import CropBatches, EvaluationBatches, ReadBatch, WorkerPool
from ssl_lib.distributed import is_distributed, share, world_size
from ssl_lib.errors import DataError
from ssl_lib.types import Batch
from ssl_lib.utils.seeding import seeded_generator

if TYPE_CHECKING:
    from ssl_lib.views import ViewPipeline

__all__ = ["Loader", "evaluation_batches"]


class Loader:
    """Training batches of a data set, in an order that depends only on (seed, epoch).

    An `ArrayData` is read in this process: `Batch.images` is one uint8 tensor (N, C, H, W). Any other data set is read
    and cropped in worker processes: `Batch.images` is a tuple with one uint8 tensor per view. The crops depend only on
    (seed, epoch, index), not on the number of workers. The global random state is never used.

    Each batch carries the random numbers of its views, drawn for the joined batch of all processes by (seed, step).

    Args:
        data: The images. A torch Dataset that is not an `ImageData` is wrapped, see `WrappedDataset`.
        views: The view pipeline. The workers use its `crop`.
        batch_size: Images per batch over all processes. Each process yields its part (see `distributed.share`).
        seed: 0 or more.
        workers: Number of worker processes. 0 reads in this process; None is the number of CPUs, at most 8.
        drop_last: Whether to drop the last batch of an epoch if it is incomplete.
        indices: Indices of the images to use (N,); None uses all images.

    Attributes:
        steps_per_epoch: Number of batches per epoch.
        skipped: Unreadable files skipped so far, if the data set allows skipping.

    Raises:
        DataError: `batch_size` is larger than the data set and `drop_last` is true.
        ValueError: An argument is out of range, or does not fit the number of processes.
    """

    def __init__(
        self,
        data: ImageData | Dataset[Any],
        views: ViewPipeline,
        batch_size: int = 256,
        *,
        seed: int = 0,
        workers: int | None = None,
        drop_last: bool = True,
        indices: Tensor | None = None,
    ) -> None:
        data = as_image_data(data)
        self.indices = torch.arange(len(data)) if indices is None else indices
        count = len(self.indices)
        if batch_size < 1 or seed < 0:
            raise ValueError(f"batch_size must be at least 1 and seed at least 0, got {batch_size} and {seed}")
        if drop_last and batch_size > count:
            raise DataError(
                f"a batch of {batch_size} is larger than the data set of {count} images: set batch_size to {count} or "
                "less, or add images"
            )
        if not drop_last and count % batch_size == 1:
            raise ValueError(
                f"batch_size {batch_size} leaves 1 of {count} images for the last batch: choose another batch_size"
            )
        if workers is not None and workers < 0:
            raise ValueError(f"workers must be at least 0, got {workers}")
        check_divisible(batch_size)
        if is_distributed() and not drop_last:
            raise ValueError(f"{world_size()} processes need complete batches: set drop_last to true")
        self.data, self.views, self.batch_size, self.seed, self.drop_last = data, views, batch_size, seed, drop_last
        self.steps_per_epoch = count // batch_size if drop_last else math.ceil(count / batch_size)
        self.skipped: list[str] = getattr(data, "skipped", [])
        self._workers: WorkerPool | None = None
        if not isinstance(data, ArrayData):
            self._workers = WorkerPool(CropBatches(data, views, seed), workers, self.steps_per_epoch, self.skipped)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of one epoch, starting at batch `start`, independently of earlier calls.

        Args:
            epoch: 0-based index of the epoch.
            start: 0-based index of the first batch to yield, at most `steps_per_epoch`.

        Raises:
            DataError: An image cannot be read.
            ValueError: `epoch` or `start` is out of range.
        """
        if epoch < 0 or not 0 <= start <= self.steps_per_epoch:
            raise ValueError(
                f"epoch must be at least 0 and start in [0, {self.steps_per_epoch}], got {epoch} and {start}"
            )
        order = torch.randperm(len(self.indices), generator=seeded_generator("order", self.seed, epoch))
        joined = torch.split(self.indices[order], self.batch_size)[start : self.steps_per_epoch]
        batches = tuple(map(share, joined))
        if isinstance(self.data, ArrayData):
            read = _gathered(self.data, batches)
        else:
            assert self._workers is not None
            read = (_batch(self.data, found, found.images) for found in self._workers.read(epoch, batches))
        first = epoch * self.steps_per_epoch + start
        counts = map(len, joined)
        return (self._with_numbers(*item) for item in zip(read, counts, itertools.count(first), strict=False))

    def fingerprint(self) -> dict[str, Any]:
        """Returns the number of images and digests of their names and sizes, which a resumed run compares."""
        return fingerprint(self.data, self.indices)

    def _with_numbers(self, batch: Batch, joined: int, step: int) -> Batch:
        """Draws the random numbers of the joined batch's views; the batch keeps its own rows."""
        numbers = self.views.draw(joined, seeded_generator("views", self.seed, step))
        rows = share(torch.arange(joined))
        return dataclasses.replace(batch, numbers=numbers[rows], rows=rows, joined=joined, step=step)


def check_divisible(batch_size: int, accumulate: int = 1, processes: int | None = None) -> None:
    """Checks that a batch can be divided evenly into the micro-batches of all processes.

    Args:
        batch_size: Images per optimizer update.
        accumulate: Micro-batches per update.
        processes: Number of processes; None is the number of running processes.

    Raises:
        ValueError: There is a remainder. The message names the nearest valid batch sizes.
    """
    processes = world_size() if processes is None else processes
    parts = accumulate * processes
    if batch_size % parts == 0:
        return
    below = batch_size - batch_size % parts
    divisors = [f"accumulate {accumulate}"] * (accumulate > 1) + [f"{processes} processes"] * (processes > 1)
    raise ValueError(
        f"batch_size {batch_size} cannot be divided by {' times '.join(divisors)}: "
        f"the nearest valid {f'sizes are {below} and' if below else 'size is'} {below + parts}"
    )


def evaluation_batches(
    data: ImageData,
    batch_size: int = 512,
    size: int | None = None,
    workers: int | None = None,
    indices: Tensor | None = None,
    resize: int | None = None,
    *,
    preprocessing: Preprocessing | None = None,
) -> Iterator[Batch]:
    """Yields every image once, in order, without augmentation; `Batch.images` is one uint8 tensor (N, C, H, W).

    The images of an `ArrayData` are unchanged if `size` is None or equal to their height and width. All other images
    are resized (shorter side to 256/224 of `size`, bicubic) and center-cropped, as in DINO's kNN evaluation
    (dino/eval_knn.py). An `ArrayData` is resized in this process, any other data set in the workers.

    Args:
        data: The images.
        batch_size: Images per batch. The last batch may be smaller.
        size: Height and width of the output images.
        workers: Number of worker processes. 0 reads in this process; None is the number of CPUs, at most 8.
        indices: Indices of the images to yield (N,); None yields all images.
        resize: Length of the shorter side after resizing, in pixels, at least `size`; None is 256/224 of `size`.
        preprocessing: Arranges the images in place of `size` and `resize`.

    Raises:
        DataError: An image cannot be read. An image that raises SkipImage is left out instead.
        ValueError: `batch_size`, `size` or `resize` is out of range, or `size` is None for images of various sizes.
    """
    if batch_size < 1 or (size is not None and size < 1):
        raise ValueError(f"batch_size and size must be at least 1, got {batch_size} and {size}")
    if resize is not None and resize < (size or 1):
        raise ValueError(f"resize must be at least size, {size}, got {resize}")
    batches = torch.split(torch.arange(len(data)) if indices is None else indices, batch_size)
    arrange = None if preprocessing is None else preprocessing.arrange
    if arrange is None and size is not None:
        unchanged = isinstance(data, ArrayData) and (data.height, data.width) == (size, size) and resize in (None, size)
        arrange = None if unchanged else partial(resize_and_crop, size=size, shorter_side=resize)
    if isinstance(data, ArrayData):
        return _gathered(data, batches, arrange)
    if arrange is None:
        raise ValueError(
            f"{type(data).__name__} may contain images of various sizes: set size in pixels, such as "
            "extract_features(encoder, data, size=224)"
        )
    pool = WorkerPool(EvaluationBatches(data, arrange), workers, len(batches), getattr(data, "skipped", []))
    return (_batch(data, read, read.images[0]) for read in pool.read(0, batches) if len(read.indices))


def _gathered(
    data: ArrayData, batches: Sequence[Tensor], transform: Callable[[Tensor], Tensor] | None = None
) -> Iterator[Batch]:
    def gather(indices: Tensor) -> ReadBatch:
        images = data.gather(indices)
        images = transform(images) if transform else images
        return ReadBatch((images.pin_memory() if torch.cuda.is_available() else images,), indices, [])

    prefetch = data.memory_mapped or torch.cuda.is_available()  # otherwise there is no latency to hide
    reads = _prefetched(gather, batches) if prefetch else map(gather, batches)
    return (_batch(data, read, read.images[0]) for read in reads)


def _batch(data: ImageData, read: ReadBatch, images: Tensor | tuple[Tensor, ...]) -> Batch:
    return Batch(images, None if data.labels is None else data.labels[read.indices], read.indices)


def _prefetched(gather: Callable[[Tensor], ReadBatch], batches: Sequence[Tensor]) -> Iterator[ReadBatch]:
    """Reads the next batch in a thread while the current batch is in use, to hide the latency of the disk."""
    with ThreadPoolExecutor(1) as thread:
        ahead: Future[ReadBatch] | None = None
        for indices in batches:
            following = thread.submit(gather, indices)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()
