"""Checks before training that method, loader, optimizer and schedule fit each other and the processes."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_lib.data import ImageData, Loader
from ssl_lib.data.base import SkipImage
from ssl_lib.data.loader import check_divisible
from ssl_lib.distributed import is_distributed
from ssl_lib.errors import CheckpointError
from ssl_lib.memory import check_memories
from ssl_lib.methods.base import Method
from ssl_lib.optim.param_groups import check_optimizer
from ssl_lib.optim.schedules import Schedule
from ssl_lib.runs.files import list_checkpoints
from ssl_lib.utils.launcher import processes_started

__all__ = ["check_batches", "check_images", "check_labels", "check_method", "check_parts", "check_run_dir"]

_SAMPLE = 16  # images that are read to see whether they have colors


def check_parts(
    method: Method, loader: Loader, optimizer: Optimizer, schedule: Schedule | None, *, accumulate: int
) -> None:
    """Refuses arguments of `Trainer.fit` that do not fit each other or the number of processes.

    Raises:
        TypeError: An argument has the wrong type.
        RuntimeError: Several processes were started but have not joined a process group.
        ValueError: The optimizer's parameters are not the method's, the batch cannot be divided, a queue or bank does
            not fit the number of images, or the images have no labels or colors, which the method needs.
    """
    check_method(method)
    for value, kind in ((loader, Loader), (schedule, Schedule | None)):
        if not isinstance(value, kind):
            raise TypeError(f"fit(method, loader, optimizer, schedule): expected a {kind}, got {value!r}")
    if processes_started() > 1 and not is_distributed():
        raise RuntimeError(
            f"{processes_started()} processes were started but have not joined a process group, so each would train "
            "its own run: build loader and method, and call fit, inside `with ssl_lib.started():`"
        )
    check_batches(loader, accumulate)
    check_optimizer(optimizer, method)
    check_memories(method, len(loader.data))
    check_labels(method, loader.data)
    check_images(method, loader.data)


def check_batches(loader: Loader, accumulate: int) -> None:
    """Refuses batches that cannot be divided among the processes and micro-batches.

    Raises:
        ValueError: The batch size is not divisible, or the last batch of an epoch may be incomplete.
    """
    check_divisible(loader.batch_size, accumulate)
    if (accumulate > 1 or is_distributed()) and not loader.drop_last:
        raise ValueError("batches that are divided, by accumulate or among processes, must be full: set drop_last=True")


def check_labels(method: object, data: ImageData) -> None:
    """Refuses images without labels if the method, or the class of a method, is supervised.

    Raises:
        ValueError: The images have no labels.
    """
    if getattr(method, "supervised", False) and data.labels is None:
        name = method.__name__ if isinstance(method, type) else type(method).__name__
        raise ValueError(
            f"{name} is supervised, but the training images have no labels: use labeled images, or a self-supervised "
            "method such as simclr"
        )


def check_images(method: Method, data: ImageData) -> None:
    """Refuses gray images if the method needs colors; of images with three channels, it reads a few.

    Raises:
        ValueError: The images are gray.
    """
    if not method.colors:
        return
    name, count = type(method).__name__, min(_SAMPLE, len(data))
    if data.channels != 3:
        raise ValueError(f"{name} needs images with colors, in 3 channels; these have {data.channels}")
    images = (_read(data, index * len(data) // count) for index in range(count))
    if all(image is None or bool((image == image[:1]).all()) for image in images):
        raise ValueError(f"{name} needs images with colors, and {count} images spread over the data are all gray")


def _read(data: ImageData, index: int) -> Tensor | None:
    try:
        return data.read(index)
    except SkipImage:
        return None


def check_method(method: object) -> None:
    """Checks that an object is a `Method` with a backbone.

    Raises:
        TypeError: The object is not a `Method`, or its `backbone` is not set to a module.
    """
    if not isinstance(method, Method):
        raise TypeError(f"expected a Method, got {type(method).__name__}: subclass ssl_lib.Method")
    if not isinstance(getattr(method, "backbone", None), nn.Module):
        raise TypeError(f"{type(method).__name__} must set self.backbone, the network to train")


def check_run_dir(run_dir: Path | None, resume: bool) -> None:
    """Refuses to overwrite a run, and to resume without a folder, before anything is written.

    Raises:
        ValueError: A run is to be resumed, but there is no folder.
        CheckpointError: The folder holds a run that is not to be resumed.
    """
    if resume and run_dir is None:
        raise ValueError("resume needs a run_dir: Trainer(run_dir=...)")
    if not resume and run_dir is not None and list_checkpoints(run_dir):
        raise CheckpointError(
            f"{run_dir} already holds a run: pass resume=True to continue it, choose another run_dir, or delete its "
            "checkpoints"
        )
