"""One optimizer update: micro-batches forward and backward, the optimizer's step, the teachers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass

from torch import nn

from ssl_lib.methods.base import checked_output
from ssl_lib.training.callbacks.callback_list import CallbackList
from ssl_lib.training.ddp import unsynced
from ssl_lib.training.nonfinite import ModuleWatch, finite_gradients, overflowing_scale
from ssl_lib.training.state import TrainState
from ssl_lib.types import Batch, StepOutput
from ssl_lib.utils.precision import Precision
from ssl_lib.utils.stopwatch import Stopwatch

__all__ = ["Update"]


@dataclass(frozen=True, kw_only=True)
class Update:
    """Performs optimizer updates.

    Attributes:
        precision: Device and autocast.
        micro_batches: Number of micro-batches per update.
        clip: Clips the gradients of the parameters it is called with; None leaves them.
        callbacks: They observe the gradients of an update that completes a line.
        keep_buffers: Restore the buffers when an update is skipped.
        watch_from: First step whose modules are watched for NaN and infinite outputs; None watches none.
        clock: Measures the stages.
    """

    precision: Precision
    micro_batches: int
    clip: Callable[[Iterable[nn.Parameter]], object] | None
    callbacks: CallbackList
    keep_buffers: bool
    watch_from: int | None
    clock: Stopwatch

    def __call__(self, state: TrainState, batch: Batch, *, completes_line: bool) -> None:
        """Updates the method on one batch; `state.step` counts the update afterwards."""
        method, progress = state.method, state.progress
        lr = state.schedule.apply(state.optimizer, progress)
        if self.keep_buffers:
            state.keep_buffers()
        watched = self.watch_from is not None and state.step >= self.watch_from
        with ModuleWatch(method) if watched else nullcontext() as watch:
            output = self._accumulate_gradients(state, batch, lr, watch)
            with self.clock("optimizer"):
                stepped = self._step(state, output, watch, completes_line)
        if stepped:
            with self.clock("teacher"):
                for teacher, parts in method.ema_pairs():
                    teacher.update(parts, method.ema_momentum(progress))
                method.after_update(progress)
        else:
            method.on_skipped_update(progress)
        state.step += 1

    def _accumulate_gradients(
        self, state: TrainState, batch: Batch, lr: float, watch: ModuleWatch | None
    ) -> StepOutput:
        """Forward and backward of every micro-batch; returns the output of the last one."""
        micros = batch.split(self.micro_batches)
        for number, micro in enumerate(micros, start=1):
            with self.clock("copy"):
                moved = micro.to(self.precision.device)
            with self.clock("views"):
                views = state.loader.views(moved)
            with unsynced(state.model) if number < len(micros) else nullcontext():
                with self.clock("forward"), self.precision.autocast():
                    output = checked_output(state.model(views, state.progress), state.method)
                state.meter.record(state.step, output, lr, micro.indices)
                if watch is not None:
                    watch.follow(output.loss)
                with self.clock("backward"):
                    state.scaler.scale(output.loss * (len(micro.indices) / len(batch.indices))).backward()
        return output

    def _step(self, state: TrainState, output: StepOutput, watch: ModuleWatch | None, completes_line: bool) -> bool:
        """Clips and steps; returns False if a value was not finite and the optimizer did not step."""
        optimizer, scaler, meter = state.optimizer, state.scaler, state.meter
        scaler.unscale_(optimizer)
        state.method.before_update(state.progress)
        scale, last = scaler.get_scale(), meter.last
        # an enabled GradScaler checks the gradients itself
        gradients = None if scaler.is_enabled() else finite_gradients(state.parameters, self.precision.device)
        found = meter.judge(state.method, gradients)
        if found is None:
            for callback in self.callbacks if completes_line else ():
                callback.on_backward(state, output)
            if self.clip is not None:
                self.clip(state.parameters)
            scaler.step(optimizer)
        else:
            found = found if watch is None else watch.explain(found)
            self.callbacks.report_nonfinite(state, found, skipped_before=meter.skips_in_a_row)
            state.restore_buffers()
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        stepped = found is None and scaler.get_scale() >= scale
        if not stepped:
            self.callbacks.report_nonfinite(state, overflowing_scale(scaler.get_scale(), last))
        return stepped
