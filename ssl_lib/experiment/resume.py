"""The config with which a run resumes: compared with the config in its checkpoint, and continued from it."""

from __future__ import annotations

import dataclasses
import math
import sys

from ssl_lib.config.load import refuse_changes, saved_config
from ssl_lib.config.resolve import call
from ssl_lib.config.run_config import RunConfig
from ssl_lib.distributed import rank
from ssl_lib.training.checkpoint_folder import Checkpoint

__all__ = ["resumed_config"]


def resumed_config(config: RunConfig, checkpoint: Checkpoint) -> RunConfig:
    """Adds the restarts of a checkpoint's run, and the restart of a finished run that gets more epochs.

    Prints the settings that differ from the checkpoint's but do not affect the training so far.

    Raises:
        CheckpointError: Another setting differs, or the checkpoint holds no config.
    """
    saved = saved_config(checkpoint.state)
    epochs, restarts = saved.schedule.epochs, saved.schedule.restarts
    finished = checkpoint.step >= checkpoint.state.get("total_steps", math.inf)
    schedule = call("schedule", config.schedule.resumed, epochs, restarts, finished=finished)
    config = dataclasses.replace(config, schedule=schedule)
    changes = refuse_changes(saved, config)
    if changes and rank() == 0:
        print(f"note: resuming with changed settings: {'; '.join(changes)}", file=sys.stderr)
    return config
