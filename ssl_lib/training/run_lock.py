"""One run at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from ssl_lib.distributed import gather_objects, rank
from ssl_lib.errors import CheckpointError, ConfigError, SSLError

__all__ = ["check_unlocked", "run_lock"]

_NAME = ".lock"
_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


@contextlib.contextmanager
def run_lock(run_dir: Path, *, make: bool = True) -> Iterator[None]:
    """Keeps other processes from training into a folder; of a process group the first one holds the lock for all.

    The system takes the lock back however the process ends, so that there is nothing to clean up; the file `.lock`
    stays. Processes forked meanwhile have no part in it. Where the file system has no locks, a warning says so, once.

    Args:
        run_dir: The folder.
        make: Whether to make the folder and the file; if not, and they are missing, nothing is locked.

    Raises:
        CheckpointError: Another process holds the lock, or another `run_lock` of this one; raised in the whole group.
        ConfigError: The folder cannot be made or written to.
    """
    descriptor: int | None = None
    refusal: SSLError | None = None
    if rank() == 0:
        try:
            descriptor = _take(run_dir, make)
        except SSLError as error:
            refusal = error
    try:
        if refusal := gather_objects(refusal)[0]:
            raise refusal
        yield
    finally:
        if descriptor is not None:
            _release(descriptor)


def check_unlocked(run_dir: Path) -> None:
    """Refuses a folder that is being trained into; makes nothing there.

    Raises:
        CheckpointError: As `run_lock`.
    """
    with run_lock(run_dir, make=False):
        pass


def _take(run_dir: Path, make: bool) -> int | None:
    """The descriptor of the lock, which says who has it; None where there is no file and none is to be made."""
    path = run_dir / _NAME
    if not make and not path.exists():
        return None
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        reason = "it is a file" if run_dir.is_file() else error.strerror
        raise ConfigError(f"run_dir: cannot write to {run_dir.absolute()}: {reason}") from error
    _held.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
        _release(descriptor)
        raise CheckpointError(
            f"{run_dir} is being trained into by {holder}: wait until it has ended, stop it, or choose another run_dir"
        ) from error
    except OSError as error:  # network file systems without locks
        _warn(f"{run_dir} is on a file system without locks ({error.strerror}): see that no other run writes there")
    with contextlib.suppress(OSError):  # a full disk; what has to be written there says so better
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return descriptor


def _release(descriptor: int) -> None:
    if descriptor in _held:  # not in a forked process, which may leave the same contexts
        _held.remove(descriptor)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing would not do while a fork is about to leave it
        os.close(descriptor)


@functools.cache
def _warn(text: str) -> None:
    """Says it, once."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _leave_to_parent() -> None:
    """Gives up what a fork inherited: a worker that outlives a killed run would hold its lock on."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
