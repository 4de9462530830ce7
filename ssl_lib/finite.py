"""Losses, gradients and weights that are NaN or infinite: found, explained, told."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ssl_lib.distributed import average, gather_objects, in_any
from ssl_lib.errors import NonFiniteLossError
from ssl_lib.methods.base import Method
from ssl_lib.optim.foreach import local
from ssl_lib.state import TrainState
from ssl_lib.types import NonFinite

__all__ = [
    "EMBEDDINGS",
    "GRADIENTS",
    "ForwardPass",
    "check_scale",
    "check_weights",
    "find_nonfinite",
    "finite_gradients",
    "stop",
    "tell",
]

EMBEDDINGS, GRADIENTS = "embeddings finite", "gradients finite"
"""Scalars of a forward pass that are 1 where all is finite, else 0."""

_DIVERGED = "lower the lr, warm up longer or clip gradients"


@dataclass(frozen=True)
class ForwardPass:
    """One micro-batch: its update, learning rate, images (N,), and scalars on the device."""

    step: int
    lr: float
    indices: Tensor
    scalars: dict[str, Tensor]


def find_nonfinite(state: TrainState, passes: Sequence[ForwardPass], at_once: bool) -> NonFinite | None:
    """The first loss or gradient that is not finite, in any process.

    Args:
        state: Of the run.
        passes: Where to look.
        at_once: Whether the weights are still those of the passes, so that they tell more of the cause.
    """
    return _of_all_processes(_first(state, passes, at_once))


def check_weights(state: TrainState) -> None:
    """Raises NonFiniteLossError if a weight, as it is now, is NaN or infinite in any process."""
    found, step = None, max(0, state.step - 1)
    if not _all_finite(state.method):
        reason = f"the weights became NaN or infinite by step {step}, in {state.precision.name}: {_DIVERGED}"
        found = NonFinite(step, reason, torch.tensor([], dtype=torch.int64))
    stop(state, _of_all_processes(found))


def check_scale(state: TrainState, passes: Sequence[ForwardPass]) -> None:
    """Raises NonFiniteLossError if fp16 gradients overflow however small the loss of the last pass is scaled."""
    if state.scaler.get_scale() < 1.0:
        last = passes[-1]
        reason = (
            f"the fp16 gradients are NaN or infinite at step {state.step} and before, at any "
            "loss scale: try precision bf16 or fp32, or a lower lr"
        )
        stop(state, NonFinite(state.step, reason, last.indices, last.scalars["loss"].item(), last.lr))


def stop(state: TrainState, found: NonFinite | None, skipped: int = 0) -> None:
    """Tells the callbacks and raises NonFiniteLossError, where anything was found after so many skipped updates."""
    if found is None:
        return
    tell(state, found)
    which = "update before it was" if skipped == 1 else f"{skipped} updates before it were"
    before = f" The {which} skipped." if skipped > 0 else ""
    raise NonFiniteLossError(f"{found.reason}.{before} What was saved before is left as it was.")


def tell(state: TrainState, found: NonFinite) -> None:
    """Hands what was found to every callback."""
    for callback in state.callbacks:
        callback.on_nonfinite(state, found)


def finite_gradients(state: TrainState) -> Tensor:
    """1.0 where every gradient is finite, else 0.0, on the device; nothing waits for it."""
    gradients = [local(parameter.grad) for parameter in state.parameters if parameter.grad is not None]
    gradients = [gradient for gradient in gradients if gradient.numel()]
    finite = torch.ones((), device=state.precision.device)
    if gradients:
        finite = torch.stack(torch._foreach_norm(gradients, math.inf)).isfinite().all().float()
    sharded = any(isinstance(parameter, DTensor) for parameter in state.parameters)
    return average(finite).floor() if sharded else finite  # alike in all processes


def _first(state: TrainState, passes: Sequence[ForwardPass], at_once: bool) -> NonFinite | None:
    """The first loss or gradient that is not finite."""
    if not passes:
        return None
    one = torch.ones_like(passes[0].scalars["loss"])
    values = [torch.stack((entry.scalars["loss"], entry.scalars.get(GRADIENTS, one))) for entry in passes]
    for (loss, gradients), record in zip(torch.stack(values).tolist(), passes, strict=True):
        where = f"at step {record.step}, in {state.precision.name}, at lr {record.lr:.3g}"
        if not math.isfinite(loss):
            reason = f"the loss became {loss} {where}: {_cause(state, record, at_once)}"
        elif not gradients:
            reason = (
                f"a gradient became NaN or infinite {where}: the loss of {loss:.4g} is finite, so it arose in the "
                "backward pass: a root, norm or quotient at zero, or an overflow"
            )
        else:
            continue
        indices = torch.cat([other.indices for other in passes if other.step == record.step])
        return NonFinite(record.step, reason, indices, loss, record.lr)
    return None


def _cause(state: TrainState, record: ForwardPass, at_once: bool) -> str:
    """What the step's own numbers say; its weights are there only if it is looked at at once."""
    precision = state.precision.name
    if record.scalars.get(EMBEDDINGS):
        return "the embeddings are finite, so it arose in the loss: look at its temperature and weights"
    if at_once and not _all_finite(state.method):
        return f"the weights are not finite: training diverged; {_DIVERGED}"
    if at_once and EMBEDDINGS not in record.scalars:
        return f"the weights are finite, so it arose in the forward pass in {precision} or in the loss"
    if at_once:
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


def _all_finite(method: Method) -> bool:
    flags = [local(parameter).isfinite().all() for parameter in method.parameters()]
    return bool(torch.stack(flags).all())
