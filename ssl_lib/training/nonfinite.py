"""Finds NaN and infinite losses, gradients and weights, and explains where they arose; the trainer reports them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves

from ssl_lib.distributed import average, gather_objects, in_any, local
from ssl_lib.training.meter import EMBEDDINGS, GRADIENTS, ForwardPass
from ssl_lib.training.state import TrainState
from ssl_lib.types import NonFinite

__all__ = ["ModuleWatch", "find_nonfinite", "judge_update", "nonfinite_weights", "overflowing_scale"]

_FRAME = re.compile(r'File "(.+)", line (\d+), in .+\n\s*(.*)')
_TORCH = f"{Path(torch.__file__).parent}/"
_DIVERGED = "lower the lr, warm up longer or clip gradients"


def judge_update(
    state: TrainState, *, at_once: bool, max_skips: int = 0, watch: ModuleWatch | None = None
) -> NonFinite | None:
    """Judges the current update between its last backward pass and clipping; the meter counts skipped updates.

    Args:
        state: The run.
        at_once: Check the values now. Without it, as on CUDA, they stay on the device until they are logged, to avoid a
            synchronization in every step.
        max_skips: Number of updates in a row to skip; more stop the run.
        watch: Explains where the value arose.

    Returns:
        What is not finite, in any process. `skipped` is above 0 if the update is to be skipped; with 0 the run must
        stop.
    """
    meter = state.meter
    if not state.scaler.is_enabled():  # an enabled GradScaler checks the gradients itself
        meter.records[-1].scalars[GRADIENTS] = _finite_gradients(state)
    if not at_once:
        return None
    found = find_nonfinite(state, at_once=True)
    skips = meter.skips_in_a_row
    if found is None:
        meter.skips_in_a_row = 0
        return None
    if watch is not None:
        found = watch.explain(found)
    if skips < max_skips:
        meter.skip()
        return dataclasses.replace(found, skipped=skips + 1)
    which = "update before it was" if skips == 1 else f"{skips} updates before it were"
    return dataclasses.replace(found, reason=f"{found.reason}. The {which} skipped") if skips else found


def find_nonfinite(state: TrainState, *, at_once: bool = False) -> NonFinite | None:
    """Finds the first loss or gradient since the last logged line that is not finite, in any process.

    Args:
        state: The run.
        at_once: Check the current update only, before its step, so that the weights help to find the cause.
    """
    passes = [entry for entry in state.meter.records if entry.step == state.step or not at_once]
    return _of_all_processes(_first(state.method, passes, state.precision.name, at_once))


def nonfinite_weights(state: TrainState) -> NonFinite | None:
    """Finds weights that are NaN or infinite after the last update, in any process."""
    found, step = None, state.last_progress.step
    if not _all_finite(state.method):
        reason = f"the weights became NaN or infinite by step {step}, in {state.precision.name}: {_DIVERGED}"
        found = NonFinite(step, reason, torch.tensor([], dtype=torch.int64))
    return _of_all_processes(found)


def overflowing_scale(scale: float, last: ForwardPass) -> NonFinite | None:
    """Finds fp16 gradients that overflow at any loss scale: the scaler has reduced `scale` below 1."""
    if scale >= 1.0:
        return None
    reason = (
        f"the fp16 gradients are NaN or infinite at step {last.step} and before, at any "
        "loss scale: try precision bf16 or fp32, or a lower lr"
    )
    return NonFinite(last.step, reason, last.indices, last.scalars["loss"].item(), last.lr)


class ModuleWatch(ExitStack):
    """Within this context, notes where the first NaN or infinite value arises, with autograd's anomaly mode on.

    Args:
        method: The method being trained.
    """

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self._method = method
        self._forward: str | None = None
        self._backward: str | None = None

    def __enter__(self) -> ModuleWatch:
        # without check_nan, whose error in one process would leave the others waiting
        self.enter_context(torch.autograd.set_detect_anomaly(True, check_nan=False))
        for name, module in self._method.named_modules():
            if name:
                self.callback(module.register_forward_hook(self._watch_module(name)).remove)
        return self

    def follow(self, loss: Tensor) -> None:
        """Watches the operations behind a loss during its backward pass."""
        seen, waiting = {loss.grad_fn}, [loss.grad_fn]
        while waiting:
            node: Any = waiting.pop()
            node.register_hook(self._watch_operation(node))
            for behind, _ in node.next_functions:
                if behind is not None and behind not in seen and not hasattr(behind, "variable"):
                    seen.add(behind)
                    waiting.append(behind)

    def explain(self, found: NonFinite) -> NonFinite:
        """Adds the first module, or else the first operation of the backward pass, to the reason."""
        backward = self._backward if found.loss is None or math.isfinite(found.loss) else None
        where = self._forward or backward or "The output of every module is finite, so it arose in the loss"
        return dataclasses.replace(found, reason=f"{found.reason}. {where}")

    def _watch_module(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def watch(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._forward is None and not _finite(output):
                given = "finite" if _finite(inputs) else "not finite"
                kind = type(module).__name__
                self._forward = f"The first module with a non-finite output is {name} ({kind}); its input is {given}"

        return watch

    def _watch_operation(self, node: Any) -> Callable[[Any, Any], None]:
        def watch(passed_on: Any, received: Any) -> None:
            if self._backward is None and not _finite(passed_on) and _finite(received):
                frames = [frame for text in node.metadata.get("traceback_", []) for frame in _FRAME.findall(text)]
                own = [frame for frame in frames if not frame[0].startswith(_TORCH)]
                line = f", called in {own[-1][0]}, line {own[-1][1]}: {own[-1][2].strip()}" if own else ""
                self._backward = f"The first non-finite gradient is that of {node.name()}{line}"

        return watch


def _finite_gradients(state: TrainState) -> Tensor:
    """1.0 if every gradient is finite, else 0.0, as a tensor on the device, without a synchronization."""
    gradients = [local(parameter.grad) for parameter in state.parameters if parameter.grad is not None]
    gradients = [gradient for gradient in gradients if gradient.numel()]
    finite = torch.ones((), device=state.precision.device)
    if gradients:
        finite = torch.stack(torch._foreach_norm(gradients, math.inf)).isfinite().all().float()
    sharded = any(isinstance(parameter, DTensor) for parameter in state.parameters)
    return average(finite).floor() if sharded else finite  # the same in all processes


def _finite(value: Any) -> bool:
    """Whether all floating-point tensors inside tuples, lists and dicts are finite."""
    tensors = [x for x in tree_leaves(value) if isinstance(x, Tensor) and x.is_floating_point()]
    return all(bool(tensor.detach().isfinite().all()) for tensor in tensors)


def _first(method: nn.Module, passes: Sequence[ForwardPass], precision: str, at_once: bool) -> NonFinite | None:
    """The first loss or gradient that is not finite, in this process."""
    if not passes:
        return None
    one = torch.ones_like(passes[0].scalars["loss"])
    values = [torch.stack((entry.scalars["loss"], entry.scalars.get(GRADIENTS, one))) for entry in passes]
    for (loss, gradients), record in zip(torch.stack(values).tolist(), passes, strict=True):
        where = f"at step {record.step}, in {precision}, at lr {record.lr:.3g}"
        if not math.isfinite(loss):
            reason = f"the loss became {loss} {where}: {_cause(method, record, precision, at_once)}"
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


def _cause(method: nn.Module, record: ForwardPass, precision: str, at_once: bool) -> str:
    """The likely cause, from the values of the step; its weights are known only if it is checked immediately."""
    if record.scalars.get(EMBEDDINGS):
        return "the embeddings are finite, so it arose in the loss, for example in a root, a logarithm or a quotient"
    if at_once and not _all_finite(method):
        return f"the weights are not finite: training diverged; {_DIVERGED}"
    if at_once and EMBEDDINGS not in record.scalars:
        return f"the weights are finite, so it arose in the forward pass in {precision} or in the loss"
    if at_once:
        fix = "try precision bf16 or fp32" if precision == "fp16" else _DIVERGED  # bf16 has the range of fp32
        return f"the weights are finite, so the forward pass overflowed in {precision}: {fix}"
    return f"training diverged, or the forward pass overflowed in {precision}; {_DIVERGED}, or try precision fp32"


def _of_all_processes(found: NonFinite | None) -> NonFinite | None:
    """Merges what the processes found, so that all stop or skip together."""
    if not in_any(found is not None):
        return None
    everywhere = [one for one in gather_objects(found) if one is not None]
    bad_losses = [one for one in everywhere if one.loss is not None and not math.isfinite(one.loss)]
    causes: list[NonFinite] = bad_losses or everywhere
    return dataclasses.replace(causes[0], indices=torch.cat([one.indices for one in causes]))


def _all_finite(method: nn.Module) -> bool:
    flags = [local(parameter).isfinite().all() for parameter in method.parameters()]
    return bool(torch.stack(flags).all())
