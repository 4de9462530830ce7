"""The checkpoints of one run: saved, named, pruned and found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ssl_lib.distributed import rank
from ssl_lib.errors import CheckpointError
from ssl_lib.runs.files import STEP, list_checkpoints, numbered_checkpoints
from ssl_lib.training.checkpoint import find_damage, save_checkpoint
from ssl_lib.utils.files import link_or_copy

__all__ = ["Writer", "find_checkpoint", "name_checkpoint", "save_in_folder"]


def save_in_folder(folder: Path, state: Mapping[str, Any], names: Sequence[str], keep: int) -> None:
    """Saves a run's state as `step_00000460.pt`, makes each of `names` that file too, and deletes older ones.

    In this order, so that whenever the process is killed every name stands for a whole checkpoint.

    Args:
        folder: Where to.
        state: With its `step`.
        names: Such as `last.pt`.
        keep: Number of `step_*.pt` that are left. Those past this step are of a course that was given up.

    Raises:
        CheckpointError: As for `save_checkpoint`.
    """
    step = state["step"]
    path = folder / STEP.format(step)
    save_checkpoint(path, state)
    name_checkpoint(path, names)
    numbered = numbered_checkpoints(folder)
    left = [found for number, found in numbered if number <= step][:keep]
    for _, found in numbered:
        if found not in left:
            found.unlink(missing_ok=True)


def name_checkpoint(path: Path, names: Sequence[str]) -> None:
    """Makes each of `names`, in the same folder, the checkpoint at `path`.

    Raises:
        CheckpointError: The folder is not writable.
    """
    for name in names:
        try:
            link_or_copy(path, path.with_name(name))
        except OSError as error:
            raise CheckpointError(f"cannot write the checkpoint {path.with_name(name)}: {error.strerror}") from error


def find_checkpoint(run: str | Path) -> Path:
    """The checkpoint that RUN means: the file itself, or the newest whole one of a run's folder.

    Where the newest is damaged, a warning on stderr names it and the one taken instead.

    Raises:
        CheckpointError: There is none, or none that is whole.
    """
    run = Path(run)
    if run.is_file():
        return run
    found = list_checkpoints(run)
    if not found:
        raise CheckpointError(f"no run at {run}: expected a checkpoint file, or a folder with checkpoints/last.pt")
    damaged: list[str] = []
    for path in found:
        damage = find_damage(path)
        if damage is None:
            if damaged and rank() == 0:
                print(f"warning: {'; '.join(damaged)}; taking {path} instead", file=sys.stderr, flush=True)
            return path
        damaged.append(f"cannot read the checkpoint {path}: {damage}")
    raise CheckpointError(f"no checkpoint of {run} is whole, so that it has to start again: {'; '.join(damaged)}")


class Writer:
    """Does one job at a time, in a thread where asked to; what a job raises there is raised by the next call."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def do(self, job: Callable[[], None], *, in_background: bool) -> None:
        """Does a job once the one before it is done."""
        self.wait()
        if in_background:
            self._thread = self._thread or ThreadPoolExecutor(1, "checkpoints")
            self._under_way = self._thread.submit(job)
        else:
            job()

    def wait(self) -> None:
        """Waits for the job under way."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def close(self) -> None:
        """Waits for the job under way and ends the thread."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
                self._thread = None
