"""Writing that training need not wait for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Writer"]


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
