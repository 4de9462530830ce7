"""Losses, speed and waiting between two logged lines."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ssl_lib.data import Batch
from ssl_lib.errors import NonFiniteLossError
from ssl_lib.methods.base import Method
from ssl_lib.state import TrainState
from ssl_lib.types import StepOutput

__all__ = ["Meter"]

_RESERVED = {"step", "epoch", "loss", "lr", "images_per_second", "data_wait"}
_FINITE = "embeddings finite"
_DIVERGED = "lower the lr, warm up longer or clip gradients"
_KEPT = "What was saved before is left as it was."


class Meter:
    """Averages a run's scalars from one logged line to the next, and stops the run at a loss that is not finite.

    On CUDA the values stay on the device until they are logged or checked, so that no step waits for them.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begins a new line."""
        self._start = time.perf_counter()
        self._wait = 0.0
        self._images = 0
        self._lr = 0.0
        self._steps: list[int] = []
        self._scalars: list[dict[str, Tensor]] = []

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Passes batches on and counts the time spent waiting for them."""
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(iterator, None)
            self._wait += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def record(self, state: TrainState, output: StepOutput, lr: float, images: int) -> None:
        """Notes a forward pass, before its backward pass; on the CPU raises NonFiniteLossError at once."""
        taken = _RESERVED & output.metrics.keys()
        if taken:
            raise ValueError(f"{type(state.method).__name__} logs {sorted(taken)}: these names are the trainer's own")
        scalars = {
            name: torch.as_tensor(value, device=output.loss.device).detach().float()
            for name, value in {**output.metrics, "loss": output.loss}.items()
        }
        if output.embeddings is not None:
            scalars[_FINITE] = output.embeddings.isfinite().all().float()
        self._lr = lr
        self._images += images
        self._steps.append(state.step)
        self._scalars.append(scalars)
        if state.precision.device.type == "cpu":
            _raise_if_not_finite(state, self._steps[-1:], self._scalars[-1:], lr)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what is done inside out of the speed: evaluation, saving."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def check(self, state: TrainState) -> None:
        """Raises NonFiniteLossError if a recorded loss, or a weight as it is now, is NaN or infinite."""
        _raise_if_not_finite(state, self._steps, self._scalars, self._lr)
        if not _all_finite(state.method):
            step = max(0, state.step - 1)
            raise NonFiniteLossError(
                f"the weights became NaN or infinite by step {step}, in {state.precision.name}, at lr {self._lr:.3g}: "
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
        _raise_if_not_finite(state, self._steps, self._scalars, self._lr)
        names = dict.fromkeys(name for scalars in self._scalars for name in scalars if name != _FINITE)
        means = {
            name: torch.stack([scalars[name] for scalars in self._scalars if name in scalars]).mean() for name in names
        }
        seconds = time.perf_counter() - self._start
        state.log(
            {
                "loss": means.pop("loss").item(),
                "lr": self._lr,
                **{name: value.item() for name, value in means.items()},
                "images_per_second": self._images / seconds,
                "data_wait": self._wait / seconds,
            }
        )
        self.restart()


def _raise_if_not_finite(state: TrainState, steps: list[int], scalars: list[dict[str, Tensor]], lr: float) -> None:
    if not scalars:
        return
    for step, loss, noted in zip(steps, torch.stack([s["loss"] for s in scalars]).tolist(), scalars, strict=True):
        if not math.isfinite(loss):
            raise NonFiniteLossError(_explain(state, step, loss, noted, lr))


def _explain(state: TrainState, step: int, loss: float, scalars: dict[str, Tensor], lr: float) -> str:
    precision = state.precision.name
    if not _all_finite(state.method):
        cause = f"the weights are not finite: training diverged at lr {lr:.3g}; {_DIVERGED}"
    elif _FINITE not in scalars:
        cause = f"the weights are finite, so it arose in the forward pass in {precision} or in the loss"
    elif scalars[_FINITE]:
        cause = "the embeddings are finite, so it arose in the loss: look at its temperature and weights"
    else:
        cause = f"the weights are finite, so the forward pass overflowed in {precision}: try precision bf16 or fp32"
    return f"the loss became {loss} at step {step}, in {precision}: {cause}. {_KEPT}"


def _all_finite(method: Method) -> bool:
    flags = [parameter.detach().isfinite().all() for parameter in method.parameters()]
    return bool(torch.stack(flags).all())
