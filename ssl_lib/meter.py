"""Losses, speed and waiting between two logged lines."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ssl_lib.data import Batch
from ssl_lib.distributed import average, gather_objects, in_any, world_size
from ssl_lib.errors import NonFiniteLossError
from ssl_lib.methods.base import Method
from ssl_lib.optim.foreach import local
from ssl_lib.state import TrainState
from ssl_lib.stopwatch import Stopwatch
from ssl_lib.types import NonFinite, StepOutput

__all__ = ["Meter"]

_RESERVED = {"step", "epoch", "loss", "lr", "images_per_second", "data_wait", "skipped"}
_EMBEDDINGS, _GRADIENTS = _FLAGS = "embeddings finite", "gradients finite"
_DIVERGED = "lower the lr, warm up longer or clip gradients"
_KEPT = "What was saved before is left as it was."


@dataclass(frozen=True)
class _Record:
    """One forward pass."""

    step: int
    lr: float
    indices: Tensor
    scalars: dict[str, Tensor]


class Meter:
    """Averages a run's scalars from one logged line to the next, and deals with numbers that are not finite.

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
        self._records: list[_Record] = []

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
            self._records.append(_Record(entry["step"], entry["lr"], entry["indices"], scalars))

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
            scalars[_EMBEDDINGS] = output.embeddings.isfinite().all().float()
        self._images += len(indices)
        self._records.append(_Record(state.step, lr, indices, scalars))

    def may_step(self, state: TrainState) -> bool:
        """Looks at the update under way, at once or later, between its last backward pass and the clipping.

        Returns:
            False where the update is to be skipped.

        Raises:
            NonFiniteLossError: A loss or gradient is not finite, and the run is to stop.
        """
        if not state.scaler.is_enabled():  # which looks at fp16's gradients itself
            self._records[-1].scalars[_GRADIENTS] = _finite_gradients(state)
        if not self.at_once:
            return True
        found = _of_all_processes(self._find(state, [entry for entry in self._records if entry.step == state.step]))
        self._in_a_row = 0 if found is None else self._in_a_row + 1
        if found is None:
            return True
        if self._in_a_row > self.max_skips:
            self._stop(state, found)
        self._records = [entry for entry in self._records if entry.step != state.step]
        self._skips += 1
        self._tell(state, dataclasses.replace(found, skipped=self._in_a_row))
        return False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what is done inside out of the speed: evaluation, saving."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def check(self, state: TrainState) -> None:
        """Raises NonFiniteLossError if a recorded loss or gradient, or a weight as it is now, is NaN or infinite."""
        self._stop(state, _of_all_processes(self._find(state, self._records)))
        step, found = max(0, state.step - 1), None
        if not _all_finite(state.method):
            reason = f"the weights became NaN or infinite by step {step}, in {state.precision.name}: {_DIVERGED}"
            found = NonFinite(step, reason, torch.tensor([], dtype=torch.int64))
        self._stop(state, _of_all_processes(found))

    def check_scale(self, state: TrainState) -> None:
        """Raises NonFiniteLossError if fp16 gradients overflow however small the loss is scaled."""
        if state.scaler.get_scale() < 1.0:
            reason = (
                f"the fp16 gradients are NaN or infinite at step {state.step} and before, at any "
                "loss scale: try precision bf16 or fp32, or a lower lr"
            )
            record = self._records[-1]
            self._stop(state, NonFinite(state.step, reason, record.indices, record.scalars["loss"].item(), record.lr))

    def log(self, state: TrainState) -> None:
        """Logs a line and begins the next."""
        self._stop(state, _of_all_processes(self._find(state, self._records)))
        noted = [record.scalars for record in self._records]
        skipped = {"skipped": self._skips} if self._skips else {}
        if not noted:
            state.log(skipped)
            self.restart()
            return
        names = dict.fromkeys(name for scalars in noted for name in scalars if name not in _FLAGS)
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
                **skipped,
            }
        )
        self.restart()

    def _find(self, state: TrainState, records: Sequence[_Record]) -> NonFinite | None:
        """The first loss or gradient that is not finite."""
        if not records:
            return None
        one = torch.ones_like(records[0].scalars["loss"])
        values = [torch.stack((entry.scalars["loss"], entry.scalars.get(_GRADIENTS, one))) for entry in records]
        for (loss, gradients), record in zip(torch.stack(values).tolist(), records, strict=True):
            where = f"at step {record.step}, in {state.precision.name}, at lr {record.lr:.3g}"
            if not math.isfinite(loss):
                reason = f"the loss became {loss} {where}: {self._cause(state, record)}"
            elif not gradients:
                reason = (
                    f"a gradient became NaN or infinite {where}: the loss of {loss:.4g} is finite, so it arose in the "
                    "backward pass: a root, norm or quotient at zero, or an overflow"
                )
            else:
                continue
            indices = torch.cat([other.indices for other in records if other.step == record.step])
            return NonFinite(record.step, reason, indices, loss, record.lr)
        return None

    def _stop(self, state: TrainState, found: NonFinite | None) -> None:
        """Ends the run where anything was found."""
        if found is None:
            return
        self._tell(state, found)
        skipped = self._in_a_row - 1
        which = "update before it was" if skipped == 1 else f"{skipped} updates before it were"
        before = f" The {which} skipped." if skipped > 0 else ""
        raise NonFiniteLossError(f"{found.reason}.{before} {_KEPT}")

    @staticmethod
    def _tell(state: TrainState, found: NonFinite) -> None:
        for callback in state.callbacks:
            callback.on_nonfinite(state, found)

    def _cause(self, state: TrainState, record: _Record) -> str:
        """What the step's own numbers say; its weights are there only if it is looked at at once."""
        precision = state.precision.name
        if record.scalars.get(_EMBEDDINGS):
            return "the embeddings are finite, so it arose in the loss: look at its temperature and weights"
        if self.at_once and not _all_finite(state.method):
            return f"the weights are not finite: training diverged; {_DIVERGED}"
        if self.at_once and _EMBEDDINGS not in record.scalars:
            return f"the weights are finite, so it arose in the forward pass in {precision} or in the loss"
        if self.at_once:
            cure = _DIVERGED if precision == "fp32" else "try precision bf16 or fp32"
            return f"the weights are finite, so the forward pass overflowed in {precision}: {cure}"
        return f"training diverged, or the forward pass overflowed in {precision}; {_DIVERGED}, or try precision fp32"


def _of_all_processes(found: NonFinite | None) -> NonFinite | None:
    """What was found in any process, so that all stop or skip together; gradients are bad in all at once."""
    if not in_any(found is not None):
        return None
    everywhere = [one for one in gather_objects(found) if one is not None]
    bad_losses = [one for one in everywhere if one.loss is not None and not math.isfinite(one.loss)]
    causes: list[NonFinite] = bad_losses or everywhere
    return dataclasses.replace(causes[0], indices=torch.cat([one.indices for one in causes]))


def _finite_gradients(state: TrainState) -> Tensor:
    """1.0 where every gradient is finite, else 0.0, on the device; nothing waits for it."""
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    gradients = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
    gradients = [gradient for gradient in gradients if gradient.numel()]
    finite = torch.ones((), device=state.precision.device)
    if gradients:
        finite = torch.stack(torch._foreach_norm(gradients, math.inf)).isfinite().all().float()
    sharded = any(isinstance(parameter, DTensor) for parameter in parameters)
    return average(finite).floor() if sharded else finite  # alike in all processes


def _all_finite(method: Method) -> bool:
    flags = [local(parameter).isfinite().all() for parameter in method.parameters()]
    return bool(torch.stack(flags).all())
