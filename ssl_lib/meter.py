"""Losses, speed and waiting between two logged lines."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ssl_lib.data import Batch
from ssl_lib.errors import NonFiniteLossError
from ssl_lib.state import TrainState
from ssl_lib.types import StepOutput

__all__ = ["Meter"]


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
        self._outputs: list[dict[str, Tensor]] = []

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
        """Notes a forward pass, before its backward pass; raises NonFiniteLossError at once on the CPU."""
        loss, embeddings = output.loss.detach().float(), output.embeddings
        finite = torch.ones_like(loss) if embeddings is None else embeddings.isfinite().all().float()
        self._lr = lr
        self._images += images
        self._steps.append(state.step)
        self._outputs.append({**output.metrics, "loss": loss, "embeddings_finite": finite})
        if state.precision.device.type == "cpu":
            _raise_if_not_finite(state, self._steps[-1:], self._outputs[-1:], lr)

    def skip(self, seconds: float) -> None:
        """Leaves time out of the line's speed: evaluation, saving."""
        self._start += seconds

    def check(self, state: TrainState) -> None:
        """Raises NonFiniteLossError if a recorded loss was NaN or infinite."""
        _raise_if_not_finite(state, self._steps, self._outputs, self._lr)

    def log(self, state: TrainState) -> None:
        """Logs a line and begins the next."""
        self.check(state)
        names = [name for name in self._outputs[-1] if name != "embeddings_finite"]
        means = {name: torch.stack([output[name].float() for output in self._outputs]).mean() for name in names}
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


def _raise_if_not_finite(state: TrainState, steps: list[int], outputs: list[dict[str, Tensor]], lr: float) -> None:
    if not outputs:
        return
    values = torch.stack([torch.stack([output["loss"], output["embeddings_finite"]]) for output in outputs]).tolist()
    for step, (loss, embeddings_finite) in zip(steps, values, strict=True):
        if not math.isfinite(loss):
            raise NonFiniteLossError(_explain(state, step, loss, bool(embeddings_finite), lr))


def _explain(state: TrainState, step: int, loss: float, embeddings_finite: bool, lr: float) -> str:
    precision = state.precision.name
    if embeddings_finite:
        cause = "the embeddings are finite, so it arose in the loss: look at its temperature and weights"
    elif all(parameter.isfinite().all() for parameter in state.method.parameters()):
        cause = f"the weights are finite, so the forward pass overflowed in {precision}: try precision=bf16 or fp32"
    else:
        cause = f"the weights are not finite: it diverged at lr {lr:.3g}; lower that, warm up longer or clip"
    return f"the loss became {loss} at step {step}, in {precision}: {cause}. The last checkpoint is as it was before."
