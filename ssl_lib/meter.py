"""Losses, speed and waiting between two logged lines."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_lib.data import Batch
from ssl_lib.distributed import average, world_size
from ssl_lib.finite import (
    EMBEDDINGS,
    GRADIENTS,
    ForwardPass,
    check_scale,
    check_weights,
    find_nonfinite,
    finite_gradients,
    stop,
    tell,
)
from ssl_lib.state import TrainState
from ssl_lib.stopwatch import Stopwatch
from ssl_lib.types import StepOutput

__all__ = ["Meter"]

_RESERVED = {"step", "epoch", "loss", "lr", "images_per_second", "data_wait", "memory_gb", "skipped"}


class Meter:
    """Averages a run's scalars from one logged line to the next; skips updates with bad numbers, or stops the run.

    Args:
        at_once: Look at losses and gradients before each optimizer step. On CUDA the values had better stay on the
            device until they are logged, so that no step waits for them.
        max_skips: Updates in a row to skip for a bad number before the run stops; needs `at_once`.
    """

    def __init__(self, at_once: bool, max_skips: int = 0) -> None:
        self.at_once = at_once
        self.max_skips = max_skips
        self._in_a_row = 0
        self.restart()

    def restart(self) -> None:
        """Begins a new line."""
        self._start = time.perf_counter()
        self._wait = 0.0
        self._images = 0
        self._skips = 0
        self._records: list[ForwardPass] = []

    def mark(self) -> tuple[int, int, int]:
        """Where it stands within its line, for `state_dict`."""
        return len(self._records), self._skips, self._in_a_row

    def state_dict(self, mark: tuple[int, int, int] | None = None) -> dict[str, Any]:
        """What was noted since the last line, or until a mark, so that a run broken off in a line resumes in it."""
        count, skips, in_a_row = self.mark() if mark is None else mark
        records = []
        for entry in self._records[:count]:
            scalars = {name: value.item() for name, value in entry.scalars.items()}
            indices = entry.indices.clone()  # a view of the whole epoch's order, which would be saved with it
            records.append({"step": entry.step, "lr": entry.lr, "indices": indices, "scalars": scalars})
        return {"records": records, "skips": skips, "in_a_row": in_a_row}

    def load_state_dict(self, saved: Mapping[str, Any], device: torch.device) -> None:
        """Goes on within a line. Its speed is that from here on."""
        self.restart()
        self._skips, self._in_a_row = saved["skips"], saved["in_a_row"]
        for entry in saved["records"]:
            values = entry["scalars"].items()
            scalars = {name: torch.tensor(value, dtype=torch.float32, device=device) for name, value in values}
            self._records.append(ForwardPass(entry["step"], entry["lr"], entry["indices"], scalars))

    def timed(self, batches: Iterable[Batch], clock: Stopwatch) -> Iterator[Batch]:
        """Passes batches on and counts the time spent waiting for them."""
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            with clock("data wait"):
                batch = next(iterator, None)
            self._wait += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def record(self, state: TrainState, output: StepOutput, lr: float, indices: Tensor) -> None:
        """Notes a forward pass, before its backward pass."""
        taken = _RESERVED & output.metrics.keys()
        if taken:
            raise ValueError(f"{type(state.method).__name__} logs {sorted(taken)}: these names are the trainer's own")
        scalars = {
            name: torch.as_tensor(value, device=output.loss.device).detach().float()
            for name, value in {**output.metrics, "loss": output.loss}.items()
        }
        if output.embeddings is not None:
            scalars[EMBEDDINGS] = output.embeddings.isfinite().all().float()
        self._images += len(indices)
        self._records.append(ForwardPass(state.step, lr, indices, scalars))

    def may_step(self, state: TrainState) -> bool:
        """Looks at the update under way, at once or later, between its last backward pass and the clipping.

        Returns:
            False where the update is to be skipped.

        Raises:
            NonFiniteLossError: A loss or gradient is not finite, and the run is to stop.
        """
        if not state.scaler.is_enabled():  # which looks at fp16's gradients itself
            self._records[-1].scalars[GRADIENTS] = finite_gradients(state)
        if not self.at_once:
            return True
        found = find_nonfinite(state, [entry for entry in self._records if entry.step == state.step], at_once=True)
        self._in_a_row = 0 if found is None else self._in_a_row + 1
        if found is None:
            return True
        if self._in_a_row > self.max_skips:
            stop(state, found, self._in_a_row - 1)
        self._records = [entry for entry in self._records if entry.step != state.step]
        self._skips += 1
        tell(state, dataclasses.replace(found, skipped=self._in_a_row))
        return False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what is done inside out of the speed: evaluation, saving."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def check(self, state: TrainState) -> None:
        """Raises NonFiniteLossError if a recorded loss or gradient, or a weight as it is now, is NaN or infinite."""
        self._check_noted(state)
        check_weights(state)

    def check_scale(self, state: TrainState) -> None:
        """Raises NonFiniteLossError if fp16 gradients overflow however small the loss is scaled."""
        check_scale(state, self._records)

    def log(self, state: TrainState) -> None:
        """Logs a line and begins the next."""
        self._check_noted(state)
        noted = [record.scalars for record in self._records]
        skipped = {"skipped": self._skips} if self._skips else {}
        if not noted:
            state.log(skipped)
            self.restart()
            return
        names = dict.fromkeys(name for scalars in noted for name in scalars if name not in (EMBEDDINGS, GRADIENTS))
        means = {name: torch.stack([scalars[name] for scalars in noted if name in scalars]).mean() for name in names}
        values = dict(zip(means, average(torch.stack(list(means.values()))).tolist(), strict=True))
        for callback in state.callbacks:
            values = {**callback.measure(state), **values}  # what the method calls by the same name stays
        seconds = time.perf_counter() - self._start
        state.log(
            {
                "loss": values.pop("loss"),
                "lr": self._records[-1].lr,
                **values,
                "images_per_second": self._images * world_size() / seconds,
                "data_wait": self._wait / seconds,
                "memory_gb": _peak_memory(state.precision.device),
                **skipped,
            }
        )
        self.restart()

    def _check_noted(self, state: TrainState) -> None:
        stop(state, find_nonfinite(state, self._records, self.at_once))


def _peak_memory(device: torch.device) -> float:
    """The most memory so far, in GB: torch's on a GPU, else the whole process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:  # Linux; getrusage's counts what started this process, too
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
