"""Locks a run's folder, so that one process at a time trains into it."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from ssl_lib.distributed import gather_objects, rank
from ssl_lib.errors import CheckpointError, ConfigError, SSLError
from ssl_lib.runs.files import LOCK_FILE, LOCK_HOLDER
from ssl_lib.utils.files import locked, write_text

__all__ = ["check_unlocked", "run_lock"]

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""Errors of file systems without locks, such as some network file systems."""


@contextlib.contextmanager
def run_lock(run_dir: Path, *, make: bool = True) -> Iterator[None]:
    """Keeps other processes from training into a folder; the first process of a group holds the lock for all.

    The lock is the file `.lock`, which stays. `.lock.json` names the holder and is removed at the end. The operating
    system frees the lock when the process ends, however it ends. If the file system has no locks, a warning is printed
    once.

    Args:
        run_dir: The folder.
        make: Whether to create the folder and the file; if not, and they are missing, nothing is locked.

    Raises:
        CheckpointError: Another process holds the lock, or another `run_lock` of this process; raised in all processes.
        ConfigError: The folder cannot be created or written to.
    """
    with ExitStack() as stack:
        refusal: SSLError | None = None
        if rank() == 0 and (make or (run_dir / LOCK_FILE).exists()):
            try:
                stack.enter_context(_held(run_dir))
            except SSLError as error:
                refusal = error
        if refusal := gather_objects(refusal)[0]:
            raise refusal
        yield


def check_unlocked(run_dir: Path) -> None:
    """Refuses a folder that another process is training into; creates nothing.

    Raises:
        CheckpointError: As `run_lock`.
    """
    with run_lock(run_dir, make=False):
        pass


@contextlib.contextmanager
def _held(run_dir: Path) -> Iterator[None]:
    holder = run_dir / LOCK_HOLDER
    with ExitStack() as stack:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(run_dir / LOCK_FILE, wait=False))
        except BlockingIOError as error:
            raise CheckpointError(
                f"{_describe(holder)} is training into {run_dir}: wait until it has ended, stop it, or choose another "
                "run_dir"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                reason = "it is a file" if run_dir.is_file() else error.strerror or str(error)
                raise ConfigError(f"run_dir: cannot write to {run_dir.absolute()}: {reason}") from error
            _warn(
                f"{run_dir} is on a file system without locks ({error.strerror}): make sure that no other run writes "
                "to it"
            )
        process = os.getpid()
        with contextlib.suppress(OSError):  # a full disk is reported when a required file is written
            write_text(holder, json.dumps({"process": process, "host": socket.gethostname()}) + "\n")
        try:
            yield
        finally:
            if os.getpid() == process:
                holder.unlink(missing_ok=True)


def _describe(holder: Path) -> str:
    """`process 12 on host`, as the holder of the lock wrote it."""
    try:
        content = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {int(content['process'])} on {str(content['host'])[:100]}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


@functools.cache
def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
