"""The config with which a run resumes: compared with the config in its checkpoint, and continued from it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
from collections.abc import Sequence

from ssl_lib.config.load import refuse_changes, saved_config
from ssl_lib.config.networks import change_networks, split_networks
from ssl_lib.config.resolve import DERIVED
from ssl_lib.config.run_config import Component, RunConfig
from ssl_lib.distributed import rank
from ssl_lib.registry import BACKBONES, METHODS
from ssl_lib.training.checkpoint_folder import Checkpoint

__all__ = ["check_resumed_config", "resumed_config"]


def resumed_config(config: RunConfig, checkpoint: Checkpoint) -> RunConfig:
    """Adds the restarts of a checkpoint's run, and the restart of a finished run that gets more epochs.

    Prints the settings that differ from the checkpoint's but do not affect the training so far.

    Raises:
        CheckpointError: Another setting differs, or the checkpoint holds no config.
    """
    config, changes = _continued(config, saved_config(checkpoint.state), checkpoint)
    if changes and rank() == 0:
        print(f"note: resuming with changed settings: {'; '.join(changes)}", file=sys.stderr)
    return config


def check_resumed_config(config: RunConfig, checkpoint: Checkpoint) -> None:
    """Checks the settings as `resumed_config` does, before the data are loaded and anything is built.

    Args:
        config: A resolved config. Values that the build derives, such as the backbone's channels, are not compared.
        checkpoint: The checkpoint.

    Raises:
        CheckpointError: A setting differs that affects the training, or the checkpoint holds no config.
    """
    saved, schedule = saved_config(checkpoint.state), config.schedule
    backbone = _with_derived(config.backbone, saved.backbone, DERIVED[BACKBONES])
    method = _with_derived(config.method, saved.method, DERIVED[METHODS])
    networks = split_networks(saved.method)[1]
    method = change_networks(
        method, lambda one, key: _with_derived(one, networks.get(key.removeprefix("method."), one), DERIVED[BACKBONES])
    )
    scaling = schedule.lr_scaling or saved.schedule.lr_scaling
    schedule = dataclasses.replace(schedule, lr_scaling=scaling)
    _continued(dataclasses.replace(config, backbone=backbone, method=method, schedule=schedule), saved, checkpoint)


def _with_derived(component: Component, saved: Component, names: Sequence[str]) -> Component:
    """Adds the arguments of the saved component that its build derived."""
    derived = {name: value for name, value in saved.arguments.items() if name in names and saved.name == component.name}
    return dataclasses.replace(component, arguments={**derived, **component.arguments})


def _continued(config: RunConfig, saved: RunConfig, checkpoint: Checkpoint) -> tuple[RunConfig, list[str]]:
    """Returns the config with its restarts, and the accepted changes."""
    finished = checkpoint.step >= checkpoint.state.get("total_steps", math.inf)
    with contextlib.suppress(ValueError):  # a warmup longer than the run, for instance: refused below, as a change
        schedule = config.schedule.resumed(saved.schedule.epochs, saved.schedule.restarts, finished=finished)
        config = dataclasses.replace(config, schedule=schedule)
    return config, refuse_changes(saved, config)
