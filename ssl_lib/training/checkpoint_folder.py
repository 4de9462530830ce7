"""Saves, links, deletes and finds the checkpoints of one run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ssl_lib.distributed import rank
from ssl_lib.errors import CheckpointError
from ssl_lib.runs.files import STEP, list_checkpoints, numbered_checkpoints, suggested_run
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint, verify_checkpoint
from ssl_lib.utils.files import link_or_copy

__all__ = ["Checkpoint", "Writer", "find_checkpoint", "name_checkpoint", "open_checkpoint", "save_in_folder"]

T = TypeVar("T")


def save_in_folder(folder: Path, state: Mapping[str, Any], names: Sequence[str], keep: int) -> None:
    """Saves a run's state as `step_00000460.pt`, links each of `names` to it, and then deletes older checkpoints.

    In this order, every name refers to an intact checkpoint at any moment.

    Args:
        folder: The folder of the checkpoints.
        state: The state, with its `step`.
        names: Further names, such as `last.pt`.
        keep: Number of files `step_*.pt` to keep. Files of later steps, from before a resume, are deleted.

    Raises:
        CheckpointError: As for `save_checkpoint`.
    """
    step = state["step"]
    path = folder / STEP.format(step)
    save_checkpoint(path, state)
    name_checkpoint(path, names)
    numbered = numbered_checkpoints(folder)
    kept = [file for number, file in numbered if number <= step][:keep]
    for _, file in numbered:
        if file not in kept:
            file.unlink(missing_ok=True)


def name_checkpoint(path: Path, names: Sequence[str]) -> None:
    """Makes each of `names`, in the same folder, a link to the checkpoint at `path`.

    Raises:
        CheckpointError: The folder is not writable.
    """
    for name in names:
        try:
            link_or_copy(path, path.with_name(name))
        except OSError as error:
            raise CheckpointError(f"cannot write the checkpoint {path.with_name(name)}: {error.strerror}") from error


class Checkpoint:
    """A loaded checkpoint.

    Args:
        path: The file.

    Raises:
        CheckpointError: See `load_checkpoint`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = _stamp(path)
        self._state: dict[str, Any] | None = load_checkpoint(path)
        self._step = self._state.get("step")

    @property
    def state(self) -> Mapping[str, Any]:
        """The content.

        Raises:
            CheckpointError: `take` was called before.
        """
        if self._state is None:
            raise CheckpointError(f"the content of {self.path} is in use already: load the checkpoint again")
        return self._state

    @property
    def step(self) -> int:
        """Number of updates.

        Raises:
            CheckpointError: The checkpoint holds no valid number.
        """
        if not isinstance(self._step, int):
            raise CheckpointError(f"{self.path} is damaged: its step is {self._step!r:.50}, not a number")
        return self._step

    @property
    def outdated(self) -> bool:
        """Whether the file has been replaced since it was loaded, as by another process that trained meanwhile."""
        return _stamp(self.path) != self._stamp

    def take(self) -> Mapping[str, Any]:
        """Returns the content and forgets it, so that its memory is freed after use."""
        state, self._state = self.state, None
        return state


def open_checkpoint(run: str | Path | Checkpoint) -> Checkpoint:
    """Loads the checkpoint of RUN: the file itself, or the newest intact one in a run's folder.

    If the newest one is damaged, a warning names it and the one that is used instead.

    Raises:
        CheckpointError: There is no checkpoint, or none is intact.
    """
    if isinstance(run, Checkpoint):
        return run
    if Path(run).is_file():
        return Checkpoint(Path(run))
    return _newest(Path(run), Checkpoint)


def find_checkpoint(run: str | Path) -> Path:
    """Finds the checkpoint of RUN, as `open_checkpoint` does, without loading it.

    Raises:
        CheckpointError: There is no checkpoint, or none is intact.
    """
    return Path(run) if Path(run).is_file() else _newest(Path(run), verify_checkpoint)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _newest(run: Path, read: Callable[[Path], T]) -> T:
    """Reads the newest checkpoint of a run for which `read` raises no error."""
    damaged: list[str] = []
    for path in list_checkpoints(run):
        try:
            result = read(path)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        if damaged and rank() == 0:
            print(f"warning: {'; '.join(damaged)}; using {path} instead", file=sys.stderr, flush=True)
        return result
    if not damaged:
        raise CheckpointError(
            f"no run at {run}: expected a checkpoint file, or a folder with checkpoints/last.pt{suggested_run(run)}"
        )
    raise CheckpointError(f"no checkpoint of {run} is intact, so the run must start over: {'; '.join(damaged)}")


class Writer:
    """Runs one job at a time, optionally in a thread; an error in the thread is raised by the next call."""

    def __init__(self) -> None:
        self._current: Future[None] | None = None

    def do(self, job: Callable[[], None], *, in_background: bool) -> None:
        """Runs a job after the previous one has ended."""
        self.wait()
        if in_background:
            thread = ThreadPoolExecutor(1, "checkpoints")
            self._current = thread.submit(job)
            thread.shutdown(wait=False)  # it ends after the job
        else:
            job()

    def wait(self) -> None:
        """Waits for the current job."""
        current, self._current = self._current, None
        if current is not None:
            current.result()
