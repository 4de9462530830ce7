"""A step before the first one, so that what cannot work fails before anything is written."""

from __future__ import annotations

import copy
import dataclasses

import torch

from ssl_lib.config.resolve import BAD_ARGUMENTS
from ssl_lib.data import ImageData
from ssl_lib.distributed import is_distributed
from ssl_lib.errors import ConfigError
from ssl_lib.methods.base import Method, check_method, checked_output
from ssl_lib.types import Progress
from ssl_lib.views import ViewPipeline

__all__ = ["rehearse"]


def rehearse(method: Method, views: ViewPipeline, data: ImageData, micro_batch: int) -> None:
    """Trains a copy of the method on a few black images with the data's labels; what fails is a ConfigError.

    The method and the global random generator are left as they were.

    Raises:
        ConfigError: The parts do not fit each other, or the loss depends on too few parameters for several processes.
    """
    few = 8 if views.size <= 64 else 2  # large ones take seconds
    if is_distributed():
        micro_batch = max(2, micro_batch)  # of single images, batch statistics are those of all processes
    count = min(few, micro_batch, len(data))
    shapes = [(count, data.channels, view.size, view.size) for view in views.views]
    labels = None if data.labels is None else data.labels[:count]
    progress = Progress(step=0, total_steps=1, steps_per_epoch=1)
    with torch.random.fork_rng(devices=[]):
        try:
            actor = copy.deepcopy(method).train()
            check_method(actor)
            images = [torch.zeros(shape, dtype=torch.uint8) for shape in shapes]
            made = views(images, torch.Generator().manual_seed(0))
            made = dataclasses.replace(made, labels=labels, indices=torch.arange(count))
            checked_output(actor(made, progress), actor).loss.backward()
            for teacher, parts in actor.ema_pairs():
                teacher.check(parts, actor.ema_momentum(progress))
            unused = [name for name, part in actor.named_parameters() if part.requires_grad and part.grad is None]
            if unused and is_distributed():
                raise ValueError(f"in several processes the loss must depend on all parameters, and not on {unused[0]}")
        except (*BAD_ARGUMENTS, AttributeError, LookupError) as error:
            alone = " (in batches of one: see trainer.batch_size and trainer.accumulate)" if count == 1 else ""
            raise ConfigError(f"method, backbone and views do not fit each other{alone}: {error}") from error
