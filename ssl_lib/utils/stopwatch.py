"""Where the time of a step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up the seconds of named stages; an idle one costs nothing.

    On CUDA, whose kernels run on by themselves, each stage waits for its own: good for a measurement, bad for training.

    Args:
        device: What to wait for; None measures nothing.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measures what is done inside as part of `stage`."""
        if self.device is None:
            yield
            return
        start = self._now()
        yield
        self.seconds[stage] += self._now() - start

    def _now(self) -> float:
        if self.device is not None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
