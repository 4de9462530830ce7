"""Handles signals that ask a run to stop: Ctrl-C, a scheduler's SIGTERM, and SLURM's warning SIGUSR1."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from ssl_lib.distributed.process_group import rank
from ssl_lib.utils.streams import write_to_stderr

__all__ = ["STOP_SIGNALS", "Received", "leave_signals_to_parent", "stop_on_signals"]

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")
STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Signals that stop a run after the current update; Windows has no SIGUSR1."""


@dataclass
class Received:
    """The first stop signal that was received, if any."""

    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """The exit code, by the convention of shells: 130 for SIGINT, 143 for SIGTERM, 138 for SIGUSR1, 0 for none."""
        return 0 if self.signal is None else 128 + self.signal


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], object]) -> Iterator[Received]:
    """Calls `stop`, such as `trainer.stop`, at the first stop signal; a later Ctrl-C raises KeyboardInterrupt.

    The previous handlers are restored at the end. A signal that is ignored, as under `nohup`, stays ignored. Outside
    the main thread, where Python allows no handlers, nothing changes.
    """
    received = Received()

    def handle(number: int, frame: FrameType | None) -> None:
        if received.signal is None:
            received.signal = signal.Signals(number)
            if rank() == 0:
                what = "stopping after this update; press Ctrl-C to abort immediately"
                write_to_stderr(f"\n{received.signal.name}: {what}\n")
            stop()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handled = [number for number in STOP_SIGNALS if before[number] is not signal.SIG_IGN and _in_main_thread()]
    try:
        for number in handled:
            signal.signal(number, handle)
        yield received
    finally:
        for number in handled:
            signal.signal(number, before[number] or signal.SIG_DFL)


def leave_signals_to_parent(*_: object) -> None:
    """Makes a worker process ignore stop signals, which terminals and schedulers send to all processes of a job.

    The parent still needs the worker's data to finish the update. Only a SIGTERM from the parent ends the worker.
    """
    for number in set(STOP_SIGNALS) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # it returns the sender
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_parents_sigterm, daemon=True).start()


def _exit_on_parents_sigterm() -> None:
    parent = multiprocessing.parent_process()  # not os.getppid(): a fork server may have started this process
    assert parent is not None
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
        pass
    os._exit(0)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
