"""Dry run: one step on a copy of the method, so that misconfigurations fail before training."""

from __future__ import annotations

import copy
import dataclasses

import torch

from ssl_lib.config.resolve import BAD_ARGUMENTS
from ssl_lib.data import ImageData
from ssl_lib.distributed import is_distributed
from ssl_lib.errors import ConfigError
from ssl_lib.methods.base import Method
from ssl_lib.training.checks import check_method
from ssl_lib.training.method_output import checked_output
from ssl_lib.types import Progress
from ssl_lib.views import ViewPipeline

__all__ = ["dry_run"]


def dry_run(method: Method, views: ViewPipeline, data: ImageData, micro_batch: int) -> None:
    """Runs forward and backward of a copy of the method on a few black images with the data's labels.

    The method and the global random state are left unchanged.

    Args:
        method: The method to check.
        views: Makes the views from the black images.
        data: Provides the channels and labels.
        micro_batch: Images per forward pass and process; at most 8 of them are used.

    Raises:
        ConfigError: The method, backbone and views are incompatible; or there are several processes and the loss does
            not use every parameter.
    """
    few = 8 if views.size <= 64 else 2  # large images take seconds
    if is_distributed():
        micro_batch = max(2, micro_batch)  # a batch of 1 is valid if batch statistics are synchronized
    count = min(few, micro_batch, len(data))
    labels = None if data.labels is None else data.labels[:count]
    progress = Progress(step=0, total_steps=1, steps_per_epoch=1)
    with torch.random.fork_rng(devices=[]):
        try:
            trial = copy.deepcopy(method).train()
            check_method(trial)
            batch = dataclasses.replace(views.blank(count, data.channels), labels=labels, indices=torch.arange(count))
            trial.before_epoch(progress, lambda network: network.eval()(batch.large[0]).detach())
            checked_output(trial.train()(batch, progress), trial).loss.backward()
            for teacher, parts in trial.ema_pairs():
                teacher.check(parts, trial.ema_momentum(progress))
            unused = [name for name, value in trial.named_parameters() if value.requires_grad and value.grad is None]
            if unused and is_distributed():
                raise ValueError(f"with several processes, the loss must use every parameter; it ignores {unused[0]}")
        except (*BAD_ARGUMENTS, AttributeError, LookupError) as error:
            hint = " (with a batch of 1: see trainer.batch_size and trainer.accumulate)" if count == 1 else ""
            raise ConfigError(f"method, backbone and views are incompatible{hint}: {error}") from error
