"""Signals that ask a run to stop: Ctrl-C, a scheduler's SIGTERM, SLURM's warning SIGUSR1."""

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

__all__ = ["STOP_SIGNALS", "Received", "leave_signals_to_parent", "stop_on_signals"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass
class Received:
    """The first signal that came, if any."""

    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """That of a process ended by the signal, as shells count: 130 for SIGINT, 143 for SIGTERM, 138 for SIGUSR1."""
        return 0 if self.signal is None else 128 + self.signal


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], object]) -> Iterator[Received]:
    """Calls `stop` at the first of `STOP_SIGNALS`, such as `trainer.stop`; a Ctrl-C after it is a KeyboardInterrupt.

    The handlers of before are set again at the end. A signal that was ignored, as `nohup` does, stays so; outside of
    the main thread, where Python takes no handlers, nothing is changed.
    """
    received = Received()

    def handle(number: int, frame: FrameType | None) -> None:
        if received.signal is None:
            received.signal = signal.Signals(number)
            if rank() == 0:
                _say(f"\n{received.signal.name}: stopping after this update; Ctrl-C ends at once\n")
            stop()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    taken = [number for number in STOP_SIGNALS if before[number] is not signal.SIG_IGN and _in_main_thread()]
    try:
        for number in taken:
            signal.signal(number, handle)
        yield received
    finally:
        for number in taken:
            signal.signal(number, before[number] or signal.SIG_DFL)


def leave_signals_to_parent(*_: object) -> None:
    """Lets a worker process live through these signals, which are often sent to all processes of a terminal or a job.

    The parent still needs its data to finish the update; it ends its workers by a SIGTERM of its own.
    """
    for number in set(STOP_SIGNALS) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # tells who sent it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent, daemon=True).start()


def _obey_parent() -> None:
    parent = multiprocessing.parent_process()  # who asked for this process; a fork server may have made it
    assert parent is not None
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
        pass
    os._exit(0)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _say(text: str) -> None:
    """To stderr, past its buffer: a handler may come in the middle of a write to it."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
