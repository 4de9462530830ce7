"""Measures the time of named stages."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up the seconds of named stages.

    On CUDA each stage synchronizes with the device before and after: useful for a measurement, slow for training.

    Args:
        device: Device to synchronize with; None measures nothing and costs nothing.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Adds the time inside this context to `stage`."""
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
