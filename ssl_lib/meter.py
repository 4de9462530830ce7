"""Losses, speed and waiting between two logged lines."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssl_lib.data import Batch
from ssl_lib.errors import NonFiniteLossError
from ssl_lib.methods.base import Method
from ssl_lib.state import TrainState
from ssl_lib.stopwatch import Stopwatch
from ssl_lib.types import StepOutput

__all__ = ["Meter"]

_RESERVED = {"step", "epoch", "loss", "lr", "images_per_second", "data_wait"}
_FINITE = "embeddings finite"
_DIVERGED = "lower the lr, warm up longer or clip gradients"
_KEPT = "What was saved before is left as it was."


@dataclass(frozen=True)
class _Record:
    """One forward pass."""

    step: int
    lr: float
    scalars: dict[str, Tensor]


class Meter:
    """Averages a run's scalars from one logged line to the next, and stops the run at a loss that is not finite.

    Args:
        at_once: Look at every loss as it comes. On CUDA the values had better stay on the device until they are logged,
            so that no step waits for them.
    """

    def __init__(self, at_once: bool) -> None:
        self.at_once = at_once
        self.restart()

    def restart(self) -> None:
        """Begins a new line."""
        self._start = time.perf_counter()
        self._wait = 0.0
        self._images = 0
        self._records: list[_Record] = []

    def state_dict(self) -> list[dict[str, Any]]:
        """The updates noted since the last line, so that a run broken off within a line resumes within it."""
        saved = []
        for entry in self._records:
            scalars = {name: value.item() for name, value in entry.scalars.items()}
            saved.append({"step": entry.step, "lr": entry.lr, "scalars": scalars})
        return saved

    def load_state_dict(self, saved: Sequence[Mapping[str, Any]], device: torch.device) -> None:
        """Goes on within a line. Its speed is that from here on."""
        self.restart()
        for entry in saved:
            values = entry["scalars"].items()
            scalars = {name: torch.tensor(value, dtype=torch.float32, device=device) for name, value in values}
            self._records.append(_Record(entry["step"], entry["lr"], scalars))

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

    def record(self, state: TrainState, output: StepOutput, lr: float, images: int) -> None:
        """Notes a forward pass, before its backward pass."""
        taken = _RESERVED & output.metrics.keys()
        if taken:
            raise ValueError(f"{type(state.method).__name__} logs {sorted(taken)}: these names are the trainer's own")
        scalars = {
            name: torch.as_tensor(value, device=output.loss.device).detach().float()
            for name, value in {**output.metrics, "loss": output.loss}.items()
        }
        if output.embeddings is not None:
            scalars[_FINITE] = output.embeddings.isfinite().all().float()
        self._images += images
        self._records.append(_Record(state.step, lr, scalars))
        if self.at_once:
            self._raise_if_not_finite(state, self._records[-1:])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what is done inside out of the speed: evaluation, saving."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def check(self, state: TrainState) -> None:
        """Raises NonFiniteLossError if a recorded loss, or a weight as it is now, is NaN or infinite."""
        self._raise_if_not_finite(state, self._records)
        if not _all_finite(state.method):
            raise NonFiniteLossError(
                f"the weights became NaN or infinite by step {max(0, state.step - 1)}, in {state.precision.name}: "
                f"{_DIVERGED}. {_KEPT}"
            )

    def check_scale(self, state: TrainState) -> None:
        """Raises NonFiniteLossError if fp16 gradients overflow however small the loss is scaled."""
        if state.scaler.get_scale() < 1.0:
            raise NonFiniteLossError(
                f"the fp16 gradients are NaN or infinite at step {state.step} and before, at any "
                f"loss scale: try precision bf16 or fp32, or a lower lr. {_KEPT}"
            )

    def log(self, state: TrainState) -> None:
        """Logs a line and begins the next."""
        self._raise_if_not_finite(state, self._records)
        noted = [record.scalars for record in self._records]
        names = dict.fromkeys(name for scalars in noted for name in scalars if name != _FINITE)
        means = {name: torch.stack([scalars[name] for scalars in noted if name in scalars]).mean() for name in names}
        seconds = time.perf_counter() - self._start
        state.log(
            {
                "loss": means.pop("loss").item(),
                "lr": self._records[-1].lr,
                **{name: value.item() for name, value in means.items()},
                "images_per_second": self._images / seconds,
                "data_wait": self._wait / seconds,
            }
        )
        self.restart()

    def _raise_if_not_finite(self, state: TrainState, records: Sequence[_Record]) -> None:
        if not records:
            return
        losses = torch.stack([record.scalars["loss"] for record in records]).tolist()
        for loss, record in zip(losses, records, strict=True):
            if not math.isfinite(loss):
                precision = state.precision.name
                raise NonFiniteLossError(
                    f"the loss became {loss} at step {record.step}, in {precision}, at lr {record.lr:.3g}: "
                    f"{self._cause(state, record)}. {_KEPT}"
                )

    def _cause(self, state: TrainState, record: _Record) -> str:
        """What the step's own numbers say; its weights are there only if it is looked at at once."""
        precision = state.precision.name
        if record.scalars.get(_FINITE):
            return "the embeddings are finite, so it arose in the loss: look at its temperature and weights"
        if self.at_once and not _all_finite(state.method):
            return f"the weights are not finite: training diverged; {_DIVERGED}"
        if self.at_once and _FINITE not in record.scalars:
            return f"the weights are finite, so it arose in the forward pass in {precision} or in the loss"
        if self.at_once:
            return f"the weights are finite, so the forward pass overflowed in {precision}: try precision bf16 or fp32"
        return f"training diverged, or the forward pass overflowed in {precision}; {_DIVERGED}, or try precision fp32"


def _all_finite(method: Method) -> bool:
    flags = [parameter.detach().isfinite().all() for parameter in method.parameters()]
    return bool(torch.stack(flags).all())
