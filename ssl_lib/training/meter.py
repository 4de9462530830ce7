"""Averages losses and measures speed and data waiting between two logged lines."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_lib.distributed import average, world_size
from ssl_lib.training.nonfinite import EMBEDDINGS, GRADIENTS, ForwardPass, find_nonfinite
from ssl_lib.types import Batch, NonFinite, StepOutput
from ssl_lib.utils.stopwatch import Stopwatch

__all__ = ["Meter"]

_RESERVED = {"step", "epoch", "loss", "lr", "images_per_second", "data_wait", "memory_gb", "skipped"}


class Meter:
    """Averages a run's scalars from one logged line to the next, and measures its speed.

    Args:
        precision: Name of the precision, for error messages.
        at_once: Check losses and gradients before each optimizer step. Without it, on CUDA, the values stay
            on the device until they are logged, to avoid a synchronization in every step.
        max_skips: Updates in a row to skip for a NaN or infinite value; more stop the run. Needs `at_once`.
    """

    def __init__(self, precision: str, *, at_once: bool, max_skips: int = 0) -> None:
        self.precision = precision
        self.at_once = at_once
        self.max_skips = max_skips
        self.skips_in_a_row = 0
        self.restart()

    def restart(self) -> None:
        """Starts a new line."""
        self._start = time.perf_counter()
        self._wait = 0.0
        self._images = 0
        self._skips = 0
        self._records: list[ForwardPass] = []

    def state_dict(self) -> dict[str, Any]:
        """What was recorded since the last line, so that a run interrupted within a line resumes in it."""
        records = []
        for entry in self._records:
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
            self._records.append(ForwardPass(entry["step"], entry["lr"], entry["indices"], scalars))

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
        self._records.append(ForwardPass(step, lr, indices, scalars))

    @property
    def last(self) -> ForwardPass:
        """The forward pass recorded last."""
        return self._records[-1]

    def judge(self, method: nn.Module, gradients: Tensor | None) -> NonFinite | None:
        """Judges the current update between its last backward pass and clipping, if `at_once`.

        Args:
            method: The method being trained.
            gradients: 1.0 if all gradients are finite, else 0.0, on the device; None if the GradScaler checks them.

        Returns:
            What is not finite. `skipped` is above 0 if the update is to be skipped; with 0 the run must stop.
        """
        if gradients is not None:
            self.last.scalars[GRADIENTS] = gradients
        if not self.at_once:
            return None
        step = self.last.step
        found = self._find(method, [entry for entry in self._records if entry.step == step])
        if found is None:
            self.skips_in_a_row = 0
        elif self.skips_in_a_row < self.max_skips:
            self.skips_in_a_row += 1
            self._skips += 1
            self._records = [entry for entry in self._records if entry.step != step]
            return dataclasses.replace(found, skipped=self.skips_in_a_row)
        return found

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the time inside, such as evaluation and saving, from the speed."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def find_nonfinite(self, method: nn.Module) -> NonFinite | None:
        """The first recorded loss or gradient of this line that is not finite, in any process."""
        return self._find(method, self._records)

    def line(self, device: torch.device, measured: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """Returns the finished line and starts the next one.

        Args:
            device: The device, whose peak memory is reported.
            measured: Gives further scalars of the line's last update; the method's own scalars take precedence.
        """
        noted = [record.scalars for record in self._records]
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
            "lr": self.last.lr,
            **values,
            "images_per_second": self._images * world_size() / seconds,
            "data_wait": self._wait / seconds,
            "memory_gb": _peak_memory(device),
            **skipped,
        }
        self.restart()
        return line

    def _find(self, method: nn.Module, passes: Sequence[ForwardPass]) -> NonFinite | None:
        return find_nonfinite(method, passes, precision=self.precision, at_once=self.at_once)


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
