"""The training loop."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_lib.data import Batch, Loader
from ssl_lib.data.worker_errors import worker_crashes
from ssl_lib.distributed import barrier, in_any, share, world_size
from ssl_lib.errors import CheckpointError, ConfigError
from ssl_lib.methods.base import Method, backbones, checked_output
from ssl_lib.optim.schedules import Schedule
from ssl_lib.runs.files import list_checkpoints
from ssl_lib.training.callbacks import Callback, Checkpoints, default_callbacks
from ssl_lib.training.callbacks.callback_list import CallbackList
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.checkpoint_folder import find_checkpoint
from ssl_lib.training.checks import check_parts
from ssl_lib.training.ddp import parallelize, unsynced
from ssl_lib.training.fsdp import check_sharding, shard
from ssl_lib.training.gradcache import computed_in_chunks
from ssl_lib.training.meter import Meter
from ssl_lib.training.nonfinite import finite_gradients, nonfinite_weights, overflowing_scale
from ssl_lib.training.run_lock import run_lock
from ssl_lib.training.state import TrainState
from ssl_lib.types import StepOutput, Views
from ssl_lib.utils.precision import Precision, resolve_device
from ssl_lib.utils.seeding import seeded_generator
from ssl_lib.utils.stopwatch import Stopwatch

__all__ = ["Trainer"]

_STRATEGIES = {"ddp": parallelize, "fsdp2": shard}


class Trainer:
    """Trains any `Method` on any `Loader`, in one process or in all of a process group (see `distributed.started`).

    Args:
        run_dir: Folder for metrics and checkpoints; None writes nothing.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto` (bf16 where the hardware has it, else fp32), `fp32`, `bf16` or `fp16`.
        strategy: Of several processes, each holds the whole method (`ddp`) or, for what is too large for one device,
            a share of its weights, gradients and optimizer state (`fsdp2`).
        compile: Run the backbones, and on CUDA the views' colors, through torch.compile.
        accumulate: Micro-batches per optimizer update; must divide the batch size.
        exact: Whether the gradient is that of the whole batch, where the loss compares the images of a batch: only the
            backbone goes through the micro-batches, twice. It must be one without batch normalization.
        clip: Called with the parameters before each optimizer step, to clip their gradients.
        log_every: Updates between logged lines.
        skip_nonfinite: Updates in a row that are skipped for a loss or gradient that is NaN or infinite, before the run
            stops; with 0 it stops at the first. Above 0 every step on CUDA waits for its own numbers.
        callbacks: Observers; None takes `default_callbacks(run_dir)`.

    Raises:
        ConfigError: The device, the precision or the strategy is unknown or not there.
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        strategy: str = "ddp",
        compile: bool = False,
        accumulate: int = 1,
        exact: bool = False,
        clip: Callable[[Iterable[nn.Parameter]], object] | None = None,
        log_every: int = 20,
        skip_nonfinite: int = 0,
        callbacks: Sequence[Callback] | None = None,
    ) -> None:
        if accumulate < 1 or log_every < 1:
            raise ValueError(f"accumulate and log_every must be at least 1, got {accumulate} and {log_every}")
        if skip_nonfinite < 0:
            raise ValueError(f"skip_nonfinite must be at least 0, got {skip_nonfinite}")
        self.run_dir = None if run_dir is None else Path(run_dir).expanduser()
        self.precision = Precision.resolve(precision, resolve_device(device))
        if strategy not in _STRATEGIES:
            raise ConfigError(f"unknown strategy {strategy!r}: one of {', '.join(_STRATEGIES)}")
        if strategy == "fsdp2":
            check_sharding(self.precision)
        self.strategy = strategy
        self.compile = compile
        self.accumulate = accumulate
        self.exact = exact
        self.clip = clip
        self.log_every = log_every
        self.skip_nonfinite = skip_nonfinite
        self.callbacks = default_callbacks(self.run_dir) if callbacks is None else callbacks
        self.clock = Stopwatch()  # `ssl-lib bench` sets one that runs
        self._stop = threading.Event()
        self._observers = CallbackList(())

    def fit(
        self,
        method: Method,
        loader: Loader,
        optimizer: Optimizer,
        schedule: Schedule | None = None,
        *,
        resume: bool | str | Path = False,
    ) -> TrainState:
        """Trains to the schedule's end, or until `stop` is called.

        Args:
            method: Trained in place, and moved to the device.
            loader: Its seed also seeds the views, by step.
            optimizer: Over `method.param_groups(...)`; its lr, meant for a batch of 256, is scaled by the schedule.
            schedule: 100 epochs of cosine decay unless given.
            resume: Go on from the newest whole checkpoint in `run_dir`, or from the file given.

        Raises:
            NonFiniteLossError: The loss, a gradient or the weights became NaN or infinite, or fp16 gradients overflow
                at any scale; the last checkpoint is left as it was.
            DataError: An image cannot be read, or a process that reads images was killed.
            ValueError: The optimizer holds other parameters than the method's, or the batch cannot be accumulated.
            RuntimeError: torchrun or srun started several processes, and they run by themselves.
            CheckpointError: There is nothing to resume, or it does not fit; `run_dir` holds a run already and
                `resume` is False; or another process is training into it.
            ConfigError: `run_dir` cannot be made or written to.
        """
        check_parts(method, loader, optimizer, schedule, accumulate=self.accumulate)
        self._observers = CallbackList(self.callbacks)
        with ExitStack() as stack:
            if self.run_dir is not None:
                there = resume is not True or bool(list_checkpoints(self.run_dir))  # else there is nothing to resume
                stack.enter_context(run_lock(self.run_dir, make=there))
            self.check_run_dir(bool(resume))
            state = self._prepare(method, loader, optimizer, schedule or Schedule())
            if resume and self.run_dir is not None:
                state.load_state_dict(load_checkpoint(find_checkpoint(self.run_dir if resume is True else str(resume))))
            stack.enter_context(worker_crashes())
            stack.enter_context(self.precision.tf32())
            if self.exact and self.accumulate > 1:
                stack.enter_context(computed_in_chunks(backbones(method), self.accumulate))
            stack.callback(self._stop.clear)
            with state.meter.paused():
                for callback in self._observers:
                    self._observers.log(state, callback.on_start(state))
                    stack.callback(callback.on_end, state)
            while not (state.finished or state.stopping):
                self._run_epoch(state)
        barrier()  # the first may be writing yet: one that ends before it could be taken for a failure
        return state

    def stop(self) -> None:
        """Asks `fit` to return after the update under way, or the next; the state is saved first.

        For signal handlers, other threads and callbacks. A run that is stopped goes on with `resume`, and ends as if it
        had never been.
        """
        self._stop.set()

    def check_run_dir(self, resume: bool) -> None:
        """Refuses to write over a run, and to resume where none can be; `fit` does so before it writes anything.

        Raises:
            CheckpointError: The folder holds a run and `resume` is False.
            ValueError: There is no folder and `resume` is True.
        """
        if resume and self.run_dir is None:
            raise ValueError("resume needs a run_dir: Trainer(run_dir=...)")
        if not resume and self.run_dir is not None and list_checkpoints(self.run_dir):
            raise CheckpointError(
                f"{self.run_dir} holds a run already: pass resume=True to go on with it, choose another run_dir, "
                "or delete its checkpoints"
            )

    def _prepare(self, method: Method, loader: Loader, optimizer: Optimizer, schedule: Schedule) -> TrainState:
        method.to(device=self.precision.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        method.train()
        if self.compile:
            for backbone in backbones(method):
                backbone.compile()
            loader.views.compile()
        schedule.prepare(optimizer, loader.batch_size)
        at_once = self.precision.device.type == "cpu" or self.skip_nonfinite > 0
        return TrainState(
            method=method,
            model=_STRATEGIES[self.strategy](method, optimizer, self.precision),
            loader=loader,
            optimizer=optimizer,
            schedule=schedule,
            precision=self.precision,
            scaler=self.precision.scaler(),
            meter=Meter(self.precision.name, at_once=at_once, max_skips=self.skip_nonfinite),
        )

    def _run_epoch(self, state: TrainState) -> None:
        meter, callbacks = state.meter, self._observers
        epoch, start = divmod(state.step, state.loader.steps_per_epoch)
        for batch in meter.timed(state.loader.epoch(epoch, start), self.clock):
            self._update(state, batch)
            if self._completes_line(state, state.step):
                self._observers.report_nonfinite(state, meter.find_nonfinite(state.method))
                self._observers.log(state, meter.line(self.precision.device, lambda: callbacks.measure(state)))
            for callback in callbacks:
                callback.on_update(state)
                if isinstance(callback, Checkpoints) and callback.due(state):
                    with meter.paused():
                        self._check_numbers(state)
                        callback.save(state)
            state.stopping = in_any(self._stop.is_set())
            if state.finished or state.stopping:
                break
        self._check_numbers(state)
        with meter.paused():
            for callback in callbacks if state.epoch_ended else ():
                self._observers.log(state, callback.on_epoch(state))
            for callback in callbacks if state.stopping else ():
                callback.on_stop(state)

    def _update(self, state: TrainState, batch: Batch) -> None:
        """One optimizer update: forward and backward per micro-batch, step, teachers."""
        method, meter, progress = state.method, state.meter, state.progress
        lr = state.schedule.apply(state.optimizer, progress)
        if meter.at_once:
            state.mark()
        generator = seeded_generator("views", state.loader.seed, state.step)
        numbers = state.loader.views.draw(len(batch.indices) * world_size(), generator)
        count = 1 if self.exact else self.accumulate
        micros = zip(batch.split(count), share(numbers).chunk(count), strict=True)
        for number, (micro, rows) in enumerate(micros, start=1):
            views = self._make_views(state.loader, micro, rows)
            with unsynced(state.model) if number < count else nullcontext():
                with self.clock("forward"), self.precision.autocast():
                    output = checked_output(state.model(views, progress), method)
                meter.record(state.step, output, lr, micro.indices)
                with self.clock("backward"):
                    state.scaler.scale(output.loss * (len(micro.indices) / len(batch.indices))).backward()
        with self.clock("optimizer"):
            stepped = self._step(state, output)
        if stepped:
            with self.clock("teacher"):
                for teacher, parts in method.ema_pairs():
                    teacher.update(parts, method.ema_momentum(progress))
                method.after_update(progress)
        else:
            method.on_skipped_update(progress)
            self._observers.report_nonfinite(state, overflowing_scale(state.scaler.get_scale(), meter.last))
        state.step += 1

    def _completes_line(self, state: TrainState, updates: int) -> bool:
        return updates % self.log_every == 0 or state.ends_epoch(updates)

    def _step(self, state: TrainState, output: StepOutput) -> bool:
        """Clips and steps; False where numbers were not finite, and the optimizer did not step."""
        optimizer, scaler = state.optimizer, state.scaler
        scaler.unscale_(optimizer)
        state.method.before_update(state.progress)
        scale = scaler.get_scale()
        # an enabled GradScaler checks the gradients itself
        gradients = None if scaler.is_enabled() else finite_gradients(state.parameters, self.precision.device)
        found = state.meter.judge(state.method, gradients)
        if found is None:
            for callback in self._observers if self._completes_line(state, state.step + 1) else ():
                callback.on_backward(state, output)
            if self.clip is not None:
                self.clip(state.parameters)
            scaler.step(optimizer)
        else:
            self._observers.report_nonfinite(state, found, skipped_before=state.meter.skips_in_a_row)
            state.restore_buffers()
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return found is None and scaler.get_scale() >= scale

    def _check_numbers(self, state: TrainState) -> None:
        """Stops if a recorded loss or gradient, or a weight as it is now, is NaN or infinite."""
        self._observers.report_nonfinite(state, state.meter.find_nonfinite(state.method))
        step = state.last_progress.step
        self._observers.report_nonfinite(
            state, nonfinite_weights(state.method, step=step, precision=self.precision.name)
        )

    def _make_views(self, loader: Loader, batch: Batch, numbers: Tensor) -> Views:
        with self.clock("copy"):
            batch = batch.to(self.precision.device)
        with self.clock("views"):
            views = loader.views(batch.images, numbers=numbers)
        return dataclasses.replace(
            views,
            large=tuple(view.contiguous(memory_format=torch.channels_last) for view in views.large),
            small=tuple(view.contiguous(memory_format=torch.channels_last) for view in views.small),
            labels=batch.labels,
            indices=batch.indices,
        )
