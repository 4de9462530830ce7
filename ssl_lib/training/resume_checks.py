"""Checks that a checkpoint belongs to the run that resumes from it: the same images, and a schedule that continues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_lib.data import Loader
from ssl_lib.data.fingerprint import compare_files
from ssl_lib.errors import CheckpointError
from ssl_lib.optim.schedules import Schedule
from ssl_lib.utils.yaml import brief

__all__ = ["check_data", "describe_data", "resumed_schedule"]

_FINGERPRINT, _FILES = "fingerprint", "files"


def describe_data(loader: Loader) -> dict[str, Any]:
    """What a checkpoint stores about the images and their order."""
    return {
        "seed": loader.seed,
        "batch_size": loader.batch_size,
        "images": len(loader.data),
        _FINGERPRINT: loader.fingerprint(),
        _FILES: loader.file_list(),
    }


def check_data(saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Compares the results of `describe_data` of a checkpoint and of the run.

    Raises:
        CheckpointError: They differ; the message lists what changed, and names images if they are known.
    """
    changes = [
        f"{key} was {brief(saved.get(key))}, is {brief(value)}"
        for key, value in here.items()
        if key not in (_FINGERPRINT, _FILES) and saved.get(key) != value
    ]
    before, now = saved.get(_FINGERPRINT), here[_FINGERPRINT]
    if before is not None and now is not None and before != now:  # None: unknown, or saved by an earlier version
        kinds = [key for key in {**before, **now} if key != "images" and before.get(key) != now.get(key)]
        names = compare_files(saved[_FILES], here[_FILES]) if saved.get(_FILES) and here.get(_FILES) else ""
        changes.append(f"the images have other {' and '.join(kinds)}{f' ({names})' if names else ''}")
    if changes:
        raise CheckpointError(
            f"the checkpoint was saved with other data: {'; '.join(changes)}. Resume with the original config and "
            "images, or start a new run"
        )


def resumed_schedule(schedule: Schedule, saved: Mapping[str, Any], steps_per_epoch: int) -> Schedule:
    """The schedule of a run that resumes from a checkpoint; see `Schedule.resumed`.

    Args:
        schedule: The schedule with which the run is resumed.
        saved: The checkpoint. Without the key `schedule`, which earlier versions do not save, its length must be that
            of the schedule.
        steps_per_epoch: Number of updates per epoch.

    Raises:
        CheckpointError: The run has another length and is not finished, or becomes shorter.
    """
    steps, done = saved["total_steps"], saved["step"]
    known = saved.get("schedule")
    if known is None and steps == schedule.total_steps(steps_per_epoch):
        return schedule
    if known is not None:
        epochs, restarts = known["epochs"], known["restarts"]
        schedule = schedule.resumed(epochs, restarts, finished=done >= steps)
        ends = [*schedule.restart_steps(steps_per_epoch), schedule.total_steps(steps_per_epoch)]
        if schedule.continues(epochs, restarts) and ends[len(restarts)] == steps:
            return schedule
    total = schedule.total_steps(steps_per_epoch)
    if total > steps > done and known is not None:
        raise CheckpointError(
            f"the run is not finished ({done} of {steps} steps), so it cannot be made longer yet: resume it with "
            f"{known['epochs']:g} epochs, and raise the epochs of the schedule when it is finished"
        )
    raise CheckpointError(
        f"the checkpoint was saved with total_steps {steps}, but this run has {total}: resume with the original "
        "config, or start a new run"
    )
