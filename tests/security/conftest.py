"""A short run, an object whose unpickling leaves a trace, and a limit on memory."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from ssl_lib.cli.main import main

MIB = 2**20
SHORT = ["schedule.epochs=0.05", "schedule.warmup_epochs=0", "backbone.width=8", "evaluation.every_epochs=0"]
"""Changes to `quickstart` for a run of two steps."""


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "quickstart", *SHORT, f"run_dir={folder}"]) == 0
    return folder


@contextlib.contextmanager
def memory_limit(limit=64 * MIB):
    """Fails if the peak memory of the process rises by more than `limit` bytes inside this context."""
    if sys.platform != "linux":
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _memory("VmRSS")
    yield
    assert _memory("VmHWM") - before < limit


def _memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])
