"""One optimizer update: micro-batches forward and backward, the optimizer's step, teachers and memories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ssl_lib.memory import Memory, memories
from ssl_lib.training.ddp import unsynced
from ssl_lib.training.method_output import checked_output
from ssl_lib.training.nonfinite import ModuleWatch, judge_update, overflowing_scale
from ssl_lib.training.state import TrainState
from ssl_lib.types import Batch, BatchRandom, NonFinite, StepOutput
from ssl_lib.utils.seeding import seeded_generator
from ssl_lib.utils.stopwatch import Stopwatch

__all__ = ["Update"]


@dataclass(frozen=True, kw_only=True)
class Update:
    """Performs optimizer updates.

    Attributes:
        micro_batches: Number of micro-batches per update.
        clip: Clips the gradients of the parameters it is called with; None leaves them.
        at_once: Check losses and gradients before every step; see `judge_update`.
        max_skips: Number of updates in a row to skip for a NaN or infinite value; above 0 needs `at_once`.
        watch_from: First step whose modules are watched for NaN and infinite outputs; None watches none.
        clock: Measures the stages.
    """

    micro_batches: int
    clip: Callable[[Iterable[nn.Parameter]], object] | None
    at_once: bool
    max_skips: int
    watch_from: int | None
    clock: Stopwatch

    def __call__(
        self, state: TrainState, batch: Batch, on_backward: Callable[[StepOutput], None] | None = None
    ) -> NonFinite | None:
        """Updates the method on one batch; the caller then adds 1 to `state.step`.

        Args:
            state: The run.
            batch: This process's images.
            on_backward: Observes the gradients, before clipping, and the output of the last micro-batch.

        Returns:
            The value that was not finite, so that the update was skipped or the run must stop; see `judge_update`.
        """
        method, progress = state.method, state.progress
        lr = state.schedule.apply(state.optimizer, progress)
        kept = memories(method)
        before = _statistics(method, kept) if self.max_skips else {}
        watched = self.watch_from is not None and state.step >= self.watch_from
        with ModuleWatch(method) if watched else nullcontext() as watch:
            output = self._accumulate_gradients(state, batch, lr, watch)
            with self.clock("optimizer"):
                stepped, found = self._step(state, output, watch, on_backward)
        if stepped:
            with self.clock("teacher"):
                for teacher, parts in method.ema_pairs():
                    teacher.update(parts, method.ema_momentum(progress.settled))
                for memory in kept:
                    memory.commit()
                method.after_update(progress)
        else:
            for buffer, value in before.items() if found else ():
                buffer.copy_(value)
            for memory in kept:
                memory.rollback()
            method.on_skipped_update(progress)
        return found

    def _accumulate_gradients(
        self, state: TrainState, batch: Batch, lr: float, watch: ModuleWatch | None
    ) -> StepOutput:
        """Forward and backward of every micro-batch; returns the output of the last one."""
        micros = batch.split(self.micro_batches)
        for number, micro in enumerate(micros, start=1):
            with self.clock("copy"):
                moved = micro.to(state.precision.device)
            with self.clock("views"):
                random = BatchRandom(
                    batch.joined, micro.rows, seeded_generator("method", state.loader.seed, batch.step)
                )
                views = replace(state.loader.views(moved), random=random)
            with unsynced(state.model) if number < len(micros) else nullcontext():
                with self.clock("forward"), state.precision.autocast():
                    output = checked_output(state.model(views, state.progress), state.method)
                state.meter.record(state.step, output, lr, micro.indices)
                if watch is not None:
                    watch.follow(output.loss)
                with self.clock("backward"):
                    state.scaler.scale(output.loss * (len(micro.indices) / len(batch.indices))).backward()
        return output

    def _step(
        self,
        state: TrainState,
        output: StepOutput,
        watch: ModuleWatch | None,
        on_backward: Callable[[StepOutput], None] | None,
    ) -> tuple[bool, NonFinite | None]:
        """Clips and steps, unless a value is not finite; returns whether the optimizer stepped, and that value."""
        optimizer, scaler, last = state.optimizer, state.scaler, state.meter.records[-1]
        scaler.unscale_(optimizer)
        state.method.before_update(state.progress)
        found = judge_update(state, at_once=self.at_once, max_skips=self.max_skips, watch=watch)
        scale = scaler.get_scale()
        if found is None:
            if on_backward is not None:
                on_backward(output)
            if self.clip is not None:
                self.clip(state.parameters)
            scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        stepped = found is None and scaler.get_scale() >= scale
        return stepped, found if stepped else overflowing_scale(scaler.get_scale(), last) or found


def _statistics(method: nn.Module, kept: Iterable[Memory]) -> dict[Tensor, Tensor]:
    """Copies of the buffers that a forward pass changes, such as BatchNorm's statistics; memories do not change."""
    own = {id(buffer) for memory in kept for buffer in memory.buffers()}
    return {buffer: buffer.clone() for buffer in method.buffers() if id(buffer) not in own}
