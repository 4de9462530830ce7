"""Runs `ssl-lib` and scripts in forks of a process that has already imported torch, which takes milliseconds."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ssl_lib.cli.main import main

multiprocessing.set_forkserver_preload(["torch", "torchvision", "pytest", "ssl_lib.cli.train"])


class Command:
    """Runs `ssl-lib` in separate processes, one at a time; the output of the last one is in `log`."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def start(self, arguments: list[str], largest_file: int = -1, kill_at: int = -1) -> int:
        """Starts a command and returns its process id.

        Args:
            arguments: Arguments of `ssl-lib`.
            largest_file: Largest size of a file in bytes; -1 sets no limit.
            kill_at: The process is killed before its kill_at-th system call on the checkpoints; -1 does not kill it.
        """
        self.log.unlink(missing_ok=True)  # its size would count against `largest_file`
        self.process = fork(_limited, arguments, largest_file, kill_at, out=self.log, err=self.log)
        assert self.process.pid is not None
        return self.process.pid

    def wait(self) -> int:
        """Waits for the command's end; returns its exit code, or the negative number of the signal that ended it."""
        return ended(self.process)

    def run(self, arguments: list[str], **limits: int) -> int:
        """Starts a command and waits for its end."""
        self.start(arguments, **limits)
        return self.wait()


def fork(function: Callable[..., int | None], *args: Any, out: Path, err: Path) -> BaseProcess:
    """Starts an importable function in its own process group; its output is appended to files or FIFOs."""
    process = multiprocessing.get_context("forkserver").Process(target=_call, args=(function, args, out, err))
    process.start()
    return process


def ended(process: BaseProcess, seconds: float = 600) -> int:
    """Waits for a process; returns its exit code, negative for a signal. A process that hangs is killed."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{process} has not ended in {seconds} s")
    return process.exitcode


@atexit.register
def _kill_children() -> None:
    """Kills processes that a failed test has left, instead of waiting for them."""
    for process in multiprocessing.active_children():
        process.kill()


def run_script(path: Path, arguments: list[str], folder: Path) -> None:
    """Does the same as `python path arguments` in a folder, with warnings as errors."""
    os.chdir(folder)
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    warnings.simplefilter("error")
    runpy.run_path(str(path), run_name="__main__")


def _call(function: Callable[..., int | None], args: tuple[Any, ...], out: Path, err: Path) -> None:
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # the default for its own children
    for target, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), target)
    sys.exit(function(*args))


def _limited(arguments: list[str], largest_file: int, kill_at: int) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    _kill_at(kill_at)
    return main(arguments)


def _kill_at(count: int) -> None:
    """Kills this process before its count-th call that opens, links, renames or removes a checkpoint."""
    calls = iter(range(1, count))

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        counted = (event == "open" or event.startswith("os.")) and "/checkpoints" in str(arguments[0])
        if counted and next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    if count > 0:
        sys.addaudithook(hook)
