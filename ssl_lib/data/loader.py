"""Batches in a reproducible order: shuffled for training, in order for evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_lib.data.base import Batch, ImageData
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.datasets.wrapped import as_image_data
from ssl_lib.data.preprocessing import resize_and_crop
from ssl_lib.data.workers import CropBatches, EvaluationBatches, ReadBatch, WorkerPool
from ssl_lib.distributed import is_distributed, share, world_size
from ssl_lib.errors import DataError
from ssl_lib.utils.seeding import seeded_generator

if TYPE_CHECKING:
    from ssl_lib.views import ViewPipeline

__all__ = ["Loader", "evaluation_batches"]


class Loader:
    """Training batches of a data set, in an order that depends on (seed, epoch) alone.

    An `ArrayData` is gathered in this process: `Batch.images` is one uint8 tensor (N, C, H, W). Any other data set is
    read and cropped in worker processes: `Batch.images` is a tuple, one uint8 tensor per view. The crops depend on
    (seed, epoch, index) alone, not on the number of workers. Neither touches the global random state.

    Args:
        data: The images; any other torch data set is wrapped, see `WrappedDataset`.
        views: The views to be made; workers use its `crop`.
        batch_size: Images per batch over all processes; each process yields its share (see `distributed.share`).
        seed: 0 or more.
        workers: Number of worker processes; 0 reads in this one, None is the number of CPUs, at most 8.
        drop_last: Whether to leave out an epoch's last batch when it is not full.
        indices: (N,), the images to take; None takes all.

    Attributes:
        steps_per_epoch: Number of batches in an epoch.
        skipped: Files that could not be read and were skipped so far, where the data set allows that.

    Raises:
        DataError: `batch_size` is larger than the data set, with `drop_last`.
        ValueError: An argument is out of range, or does not fit the number of processes.
    """

    def __init__(
        self,
        data: ImageData | Dataset[Any],
        views: ViewPipeline,
        batch_size: int,
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
                f"a batch of {batch_size} is larger than the data set, {count} images: set batch_size to "
                f"{count} or less, or add images"
            )
        if not drop_last and count % batch_size == 1:
            raise ValueError(f"the last batch of {count} images would be a single one: choose another batch_size")
        check_divisible(batch_size)
        if is_distributed() and not drop_last:
            raise ValueError(f"{world_size()} processes can share full batches only: leave drop_last true")
        self.data, self.views, self.batch_size, self.seed, self.drop_last = data, views, batch_size, seed, drop_last
        self.steps_per_epoch = count // batch_size if drop_last else math.ceil(count / batch_size)
        self.skipped: list[str] = getattr(data, "skipped", [])
        self._workers: WorkerPool | None = None
        if not isinstance(data, ArrayData):
            self._workers = WorkerPool(CropBatches(data, views, seed), workers, self.steps_per_epoch, self.skipped)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of one epoch from batch `start` on, the same ones whatever was drawn before.

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
        batches = torch.split(self.indices[order], self.batch_size)[start : self.steps_per_epoch]
        batches = tuple(map(share, batches))
        if isinstance(self.data, ArrayData):
            return _gathered(self.data, batches)
        assert self._workers is not None
        return (_batch(self.data, read, read.images) for read in self._workers.read(epoch, batches))


def check_divisible(batch_size: int, accumulate: int = 1, processes: int | None = None) -> None:
    """Refuses a batch that its micro-batches and the processes cannot share evenly.

    Args:
        batch_size: Images per optimizer update.
        accumulate: Micro-batches per update.
        processes: Those that run, unless given.

    Raises:
        ValueError: There is a rest; the message has the nearest sizes without.
    """
    processes = world_size() if processes is None else processes
    parts = accumulate * processes
    if batch_size % parts == 0:
        return
    below = batch_size - batch_size % parts
    among = [f"accumulate {accumulate}"] * (accumulate > 1) + [f"{processes} processes"] * (processes > 1)
    raise ValueError(
        f"batch_size {batch_size} cannot be divided by {' times '.join(among)}: "
        f"the nearest that can {f'are {below} and' if below else 'is'} {below + parts}"
    )


def evaluation_batches(
    data: ImageData,
    batch_size: int = 512,
    size: int | None = None,
    workers: int | None = None,
    indices: Tensor | None = None,
    resize: int | None = None,
) -> Iterator[Batch]:
    """Yields every image once, in order, without augmentation; `Batch.images` is one uint8 tensor (N, C, H, W).

    Images of an `ArrayData` stay as they are where `size` is None or their height and width. All others have their
    shorter side resized to 256/224 of `size` (bicubic) and their center cropped, as in DINO's kNN evaluation
    (dino/eval_knn.py); those of an `ArrayData` in this process, others in workers.

    Args:
        data: The images.
        batch_size: Images per batch; the last may be smaller.
        size: Height and width of the images to yield.
        workers: Number of worker processes; 0 reads in this one, None is the number of CPUs, at most 8.
        indices: (N,), the images to yield instead.
        resize: Pixels that the shorter side is resized to instead, at least `size`.

    Raises:
        DataError: An image cannot be read. (One to be skipped is left out.)
        ValueError: `batch_size`, `size` or `resize` is out of range, or `size` is None for images of various sizes.
    """
    if batch_size < 1 or (size is not None and size < 1):
        raise ValueError(f"batch_size and size must be at least 1, got {batch_size} and {size}")
    if resize is not None and resize < (size or 1):
        raise ValueError(f"resize must be at least size, {size}, got {resize}")
    batches = torch.split(torch.arange(len(data)) if indices is None else indices, batch_size)
    if isinstance(data, ArrayData):
        if size is None or ((data.height, data.width) == (size, size) and resize in (None, size)):
            return _gathered(data, batches)
        return _gathered(data, batches, lambda images: resize_and_crop(images, size, resize))
    if size is None:
        raise ValueError(
            f"{type(data).__name__} may hold images of various sizes: give the side to show them at, in pixels, as in "
            "extract_features(encoder, data, size=224)"
        )
    pool = WorkerPool(EvaluationBatches(data, size, resize), workers, len(batches), getattr(data, "skipped", []))
    return (_batch(data, read, read.images[0]) for read in pool.read(0, batches) if len(read.indices))


def _gathered(
    data: ArrayData, batches: Sequence[Tensor], transform: Callable[[Tensor], Tensor] | None = None
) -> Iterator[Batch]:
    def gather(indices: Tensor) -> ReadBatch:
        images = data.gather(indices)
        images = transform(images) if transform else images
        return ReadBatch((images.pin_memory() if torch.cuda.is_available() else images,), indices, [])

    ahead = data.memory_mapped or torch.cuda.is_available()  # else there is nothing to wait for meanwhile
    reads = _one_ahead(gather, batches) if ahead else map(gather, batches)
    return (_batch(data, read, read.images[0]) for read in reads)


def _batch(data: ImageData, read: ReadBatch, images: Tensor | tuple[Tensor, ...]) -> Batch:
    return Batch(images, None if data.labels is None else data.labels[read.indices], read.indices)


def _one_ahead(gather: Callable[[Tensor], ReadBatch], batches: Sequence[Tensor]) -> Iterator[ReadBatch]:
    """Gathers the next batch in a thread while this one is used: the disk is waited for in the background."""
    with ThreadPoolExecutor(1) as thread:
        ahead: Future[ReadBatch] | None = None
        for indices in batches:
            following = thread.submit(gather, indices)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()
