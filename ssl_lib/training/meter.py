"""Averages losses and measures speed and data waiting between two logged lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_lib.distributed import average, world_size
from ssl_lib.types import Batch, StepOutput
from ssl_lib.utils.stopwatch import Stopwatch

__all__ = ["EMBEDDINGS", "GRADIENTS", "ForwardPass", "Meter"]

EMBEDDINGS, GRADIENTS = "embeddings finite", "gradients finite"
"""Names of scalars that are 1 if all values are finite, else 0."""

_RESERVED = {"step", "epoch", "loss", "lr", "images_per_second", "data_wait", "memory_gb", "skipped"}


@dataclass(frozen=True)
class ForwardPass:
    """One micro-batch: the step, the learning rate, the images' indices (N,), and scalars on the device."""

    step: int
    lr: float
    indices: Tensor
    scalars: dict[str, Tensor]


class Meter:
    """Averages a run's scalars from one logged line to the next, and measures its speed.

    Attributes:
        records: The forward passes since the last line.
        skips_in_a_row: Number of updates skipped since the last one that was made.
    """

    def __init__(self) -> None:
        self.skips_in_a_row = 0
        self.restart()

    def restart(self) -> None:
        """Starts a new line."""
        self._start = time.perf_counter()
        self._wait = 0.0
        self._images = 0
        self._skips = 0
        self.records: list[ForwardPass] = []

    def state_dict(self) -> dict[str, Any]:
        """What was recorded since the last line, so that a run interrupted within a line resumes in it."""
        records = []
        for entry in self.records:
            scalars = {name: value.item() for name, value in entry.scalars.items()}
            indices = entry.indices.clone()  # a view of the whole epoch's order, which would be saved with it
            records.append({"step": entry.step, "lr": entry.lr, "indices": indices, "scalars": scalars})
        return {"records": records, "skips": self._skips, "in_a_row": self.skips_in_a_row}

    def load_state_dict(self, saved: Mapping[str, Any], device: torch.device) -> None:
        """Continues within a line; its speed is measured from now on."""
        self.restart()
        self._skips, self.skips_in_a_row = saved["skips"], saved["in_a_row"]
        for entry in saved["records"]:
            values = entry["scalars"].items()
            scalars = {name: torch.tensor(value, dtype=torch.float32, device=device) for name, value in values}
            self.records.append(ForwardPass(entry["step"], entry["lr"], entry["indices"], scalars))

    def timed(self, batches: Iterable[Batch], clock: Stopwatch) -> Iterator[Batch]:
        """Yields the batches and measures the time spent waiting for them."""
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            with clock("data wait"):
                batch = next(iterator, None)
            self._wait += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def record(self, step: int, output: StepOutput, lr: float, indices: Tensor) -> None:
        """Records the forward pass of a micro-batch, before its backward pass.

        Raises:
            ValueError: The method logs a name that the trainer uses.
        """
        if taken := _RESERVED & output.metrics.keys():
            raise ValueError(f"the method logs {sorted(taken)}: these names are reserved for the trainer")
        scalars = {
            name: torch.as_tensor(value, device=output.loss.device).detach().float()
            for name, value in {**output.metrics, "loss": output.loss}.items()
        }
        if output.embeddings is not None:
            scalars[EMBEDDINGS] = output.embeddings.isfinite().all().float()
        self._images += len(indices)
        self.records.append(ForwardPass(step, lr, indices, scalars))

    def skip(self) -> None:
        """Removes the records of the last update, and counts it as skipped."""
        self.skips_in_a_row += 1
        self._skips += 1
        self.records = [entry for entry in self.records if entry.step != self.records[-1].step]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the time inside, such as evaluation and saving, from the speed."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def line(self, device: torch.device, measured: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """Returns the finished line and starts the next one.

        Args:
            device: The device, whose peak memory is reported.
            measured: Gives further scalars of the line's last update; the method's own scalars take precedence.
        """
        noted = [record.scalars for record in self.records]
        skipped = {"skipped": self._skips} if self._skips else {}
        if not noted:
            self.restart()
            return dict(skipped)
        names = dict.fromkeys(name for scalars in noted for name in scalars if name not in (EMBEDDINGS, GRADIENTS))
        means = {name: torch.stack([scalars[name] for scalars in noted if name in scalars]).mean() for name in names}
        values = dict(zip(means, average(torch.stack(list(means.values()))).tolist(), strict=True))
        values = {**measured(), **values}
        seconds = time.perf_counter() - self._start
        line = {
            "loss": values.pop("loss"),
            "lr": self.records[-1].lr,
            **values,
            "images_per_second": self._images * world_size() / seconds,
            "data_wait": self._wait / seconds,
            "memory_gb": _peak_memory(device),
            **skipped,
        }
        self.restart()
        return line


def _peak_memory(device: torch.device) -> float:
    """Peak memory so far, in GB: the memory that torch allocated on a GPU, else the memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:  # Linux; getrusage also counts the process that started this one
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
