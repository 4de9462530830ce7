"""Runs `ssl-lib` in forks of a process that has imported torch already: a start takes milliseconds, not seconds.

Reads a request per line; answers with the process id and, when it has ended, its exit code.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


class Server:
    """The other end: starts one command at a time."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log

    def start(self, arguments: list[str], largest_file: int = -1, kill_at: int = -1) -> int:
        """Starts a command and returns its process id.

        Args:
            arguments: Of `ssl-lib`.
            largest_file: Bytes that it may write to a file.
            kill_at: It is killed before so many-th call of the system on its checkpoints.
        """
        self.process.stdin.write(json.dumps([arguments, largest_file, kill_at]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """The command's exit code, negative for the signal that ended it."""
        return int(self.process.stdout.readline())

    def run(self, arguments: list[str], **limits: int) -> int:
        """Starts a command and waits for its end."""
        self.start(arguments, **limits)
        return self.wait()


@contextlib.contextmanager
def serve(log: Path) -> Iterator[Server]:
    """A server; what the commands print goes to `log`."""
    command = [sys.executable, "-m", "tests.fork_server", str(log)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, **pipes) as process:
        yield Server(process, log)
        process.stdin.close()


def _serve(log: str) -> None:
    import ssl_lib.commands.train  # noqa: F401  (and torch, before the forks)
    from ssl_lib.cli import main

    for line in sys.stdin:
        if (child := os.fork()) == 0:
            os.setsid()  # a process group of its own
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            arguments, largest_file, kill_at = json.loads(line)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
            _kill_at(kill_at)
            code = main(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _kill_at(count: int) -> None:
    """Counts the calls that open, link, rename or remove something among the checkpoints."""
    calls = iter(range(1, count))

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        seen = (event == "open" or event.startswith("os.")) and "/checkpoints" in str(arguments[0])
        if seen and next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    if count > 0:
        sys.addaudithook(hook)


if __name__ == "__main__":
    _serve(sys.argv[1])
