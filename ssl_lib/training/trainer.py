"""The training loop."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.optim import Optimizer

from ssl_lib.data import Loader
from ssl_lib.data.worker_errors import worker_crashes
from ssl_lib.distributed import barrier, gather_objects, in_any
from ssl_lib.errors import ConfigError
from ssl_lib.methods.base import Method, backbones
from ssl_lib.optim import Schedule, clip_grad_per_parameter
from ssl_lib.registry import TRAINER
from ssl_lib.runs.files import list_checkpoints
from ssl_lib.training.callbacks import Callback, Checkpoints, default_callbacks
from ssl_lib.training.callbacks.base import CallbackList
from ssl_lib.training.callbacks.nonfinite import recorded_step
from ssl_lib.training.checkpoint_folder import Checkpoint, open_checkpoint
from ssl_lib.training.checks import check_parts, check_run_dir
from ssl_lib.training.ddp import parallelize
from ssl_lib.training.encode_images import encode_images
from ssl_lib.training.fsdp import check_sharding, shard
from ssl_lib.training.gradcache import computed_in_chunks
from ssl_lib.training.meter import Meter
from ssl_lib.training.nonfinite import find_nonfinite, nonfinite_weights
from ssl_lib.training.run_lock import run_lock
from ssl_lib.training.state import TrainState
from ssl_lib.training.update import Update
from ssl_lib.utils.precision import Precision, resolve_device
from ssl_lib.utils.stopwatch import Stopwatch
from ssl_lib.utils.streams import robust_streams

__all__ = ["Trainer"]

_STRATEGIES = {"ddp": parallelize, "fsdp2": shard}


class Trainer:
    """Trains any `Method` on any `Loader`, in one process or in all of a process group (see `ssl_lib.started`).

    Args:
        run_dir: Folder for metrics and checkpoints; None writes nothing.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto` (bf16 if the hardware supports it, else fp32), `fp32`, `bf16` or `fp16`.
        strategy: With several processes, each holds the whole method (`ddp`) or, for models too large for one device,
            a fraction of its weights, gradients and optimizer state (`fsdp2`).
        compile: Run the backbones, and on CUDA the views' colors, through torch.compile.
        accumulate: Micro-batches per optimizer update; must divide the batch size.
        exact: Compute the gradient of the whole batch for losses that compare its images: only the backbone, which
            must have no batch normalization, goes through the micro-batches, twice.
        clip_norm: Largest norm of all gradients together, > 0; None does not clip.
        clip_per_parameter: Clip the gradient of each parameter to `clip_norm` instead (DINO).
        log_every: Updates between logged lines.
        skip_nonfinite: Number of updates in a row to skip for a NaN or infinite loss or gradient before the run stops;
            with 0 it stops at the first. Above 0 every step on CUDA synchronizes with the device.
        debug_nonfinite: From the step in `nonfinite.json` on, or from the first if there is no such file, find the
            first module with a NaN or infinite output, and turn on autograd's anomaly mode. Slow.
        callbacks: Observers of the run; None takes `default_callbacks(run_dir)`.

    Raises:
        ConfigError: The device, the precision or the strategy is unknown or not available.
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        *,
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
        strategy: Literal["ddp", "fsdp2"] = "ddp",
        compile: bool = False,
        accumulate: int = 1,
        exact: bool = False,
        clip_norm: float | None = None,
        clip_per_parameter: bool = False,
        log_every: int = 20,
        skip_nonfinite: int = 0,
        debug_nonfinite: bool = False,
        callbacks: Sequence[Callback] | None = None,
    ) -> None:
        if accumulate < 1 or log_every < 1 or skip_nonfinite < 0:
            raise ValueError(
                "accumulate and log_every must be at least 1, and skip_nonfinite at least 0, got "
                f"{accumulate}, {log_every} and {skip_nonfinite}"
            )
        if not (clip_norm > 0 if clip_norm is not None else not clip_per_parameter):
            raise ValueError(f"clip_norm must be above 0, and clip_per_parameter needs one; got clip_norm {clip_norm}")
        if strategy not in _STRATEGIES:
            raise ConfigError(f"unknown strategy {strategy!r}: one of {', '.join(_STRATEGIES)}")
        self.run_dir = None if run_dir is None else Path(run_dir).expanduser()
        self.precision = Precision.resolve(precision, resolve_device(device))
        if strategy == "fsdp2":
            check_sharding(self.precision)
        self.strategy, self.compile = strategy, compile
        self.accumulate, self.exact = accumulate, exact
        self.clip_norm, self.clip_per_parameter = clip_norm, clip_per_parameter
        self.log_every = log_every
        self.skip_nonfinite, self.debug_nonfinite = skip_nonfinite, debug_nonfinite
        self.callbacks = default_callbacks(self.run_dir) if callbacks is None else callbacks
        self.clock = Stopwatch()  # replaced by `ssl-lib bench`
        self._stop = threading.Event()

    def fit(
        self,
        method: Method,
        loader: Loader,
        optimizer: Optimizer,
        schedule: Schedule | None = None,
        *,
        resume: bool | str | Path | Checkpoint = False,
    ) -> TrainState:
        """Trains to the schedule's end, or until `stop` is called.

        Args:
            method: Trained in place, and moved to the device.
            loader: Its seed also seeds the views, by step.
            optimizer: Over `method.param_groups(...)`; `Schedule.prepare` scales its lr by the batch size / 256.
            schedule: None trains 100 epochs with cosine decay.
            resume: True resumes from the newest intact checkpoint in `run_dir`; or the file, or the loaded checkpoint.
                A finished run is made longer by a schedule with more epochs (`Schedule.resumed`).

        Raises:
            NonFiniteLossError: The loss, a gradient or the weights became NaN or infinite, or fp16 gradients overflow
                at any scale; the last checkpoint is unchanged.
            DataError: An image cannot be read, or a process that reads images was killed.
            ValueError: The optimizer holds other parameters than the method's, or the batch cannot be accumulated.
            RuntimeError: torchrun or srun started several processes that have not joined a process group.
            CheckpointError: There is nothing to resume, or it does not fit; `run_dir` already holds a run and
                `resume` is False; or another process is training into it.
            ConfigError: `run_dir` cannot be created or written to.
        """
        check_parts(method, loader, optimizer, schedule, accumulate=self.accumulate)
        with ExitStack() as stack:
            stack.enter_context(robust_streams())
            if self.run_dir is not None:
                exists = resume is not True or bool(list_checkpoints(self.run_dir))  # else there is nothing to resume
                stack.enter_context(run_lock(self.run_dir, make=exists))
            check_run_dir(self.run_dir, bool(resume))
            state = self._prepare(method, loader, optimizer, schedule or Schedule())
            if resume and self.run_dir is not None:
                again = isinstance(resume, Checkpoint) and resume.outdated  # another process has trained meanwhile
                state.load_state_dict(open_checkpoint(self.run_dir if resume is True or again else resume).take())
            stack.enter_context(worker_crashes())
            stack.enter_context(self.precision.tf32())
            if self.exact and self.accumulate > 1:
                stack.enter_context(computed_in_chunks(backbones(method), self.accumulate))
            stack.callback(self._stop.clear)
            callbacks = CallbackList(self.callbacks)
            update = self._make_update()
            with state.meter.paused():
                callbacks.start(state, stack)
            while not (state.finished or state.stopping):
                self._run_epoch(state, update, callbacks)
        barrier()  # the first process may still write; a launcher could take an earlier exit of others for a failure
        return state

    def stop(self) -> None:
        """Asks `fit` to return after the current update, or the next one; the state is saved first.

        For signal handlers, other threads and callbacks. A stopped run resumes with `resume`, and ends as if it had
        never been stopped.
        """
        self._stop.set()

    def _prepare(self, method: Method, loader: Loader, optimizer: Optimizer, schedule: Schedule) -> TrainState:
        method.to(device=self.precision.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        method.train()
        if self.compile:
            for backbone in backbones(method):
                backbone.compile()
            loader.views.compile()
        schedule = schedule.scaled_for(method, optimizer)
        schedule.prepare(optimizer, loader.batch_size)
        return TrainState(
            method=method,
            model=_STRATEGIES[self.strategy](method, optimizer, self.precision),
            loader=loader,
            optimizer=optimizer,
            schedule=schedule,
            precision=self.precision,
            scaler=self.precision.scaler(),
            meter=Meter(),
        )

    def _make_update(self) -> Update:
        clip = clip_grad_per_parameter if self.clip_per_parameter else nn.utils.clip_grad_norm_
        return Update(
            micro_batches=1 if self.exact else self.accumulate,
            clip=None if self.clip_norm is None else functools.partial(clip, max_norm=self.clip_norm),
            at_once=self.precision.device.type == "cpu" or self.skip_nonfinite > 0 or self.debug_nonfinite,
            max_skips=self.skip_nonfinite,
            watch_from=(gather_objects(recorded_step(self.run_dir))[0] or 0) if self.debug_nonfinite else None,
            clock=self.clock,
        )

    def _run_epoch(self, state: TrainState, update: Update, callbacks: CallbackList) -> None:
        meter = state.meter
        epoch, start = divmod(state.step, state.loader.steps_per_epoch)
        if start == 0:
            with meter.paused():
                state.method.before_epoch(state.progress, functools.partial(encode_images, state))
        for batch in meter.timed(state.loader.epoch(epoch, start), self.clock):
            completes_line = (state.step + 1) % self.log_every == 0 or state.ends_epoch(state.step + 1)
            found = update(state, batch, functools.partial(callbacks.backward, state) if completes_line else None)
            callbacks.report_nonfinite(state, found)
            state.step += 1
            if completes_line:
                callbacks.report_nonfinite(state, find_nonfinite(state))
                line = meter.line(self.precision.device, lambda: callbacks.measure(state))
                with meter.paused():
                    callbacks.log(state, line)
            for callback in callbacks:
                callback.on_update(state)
                if isinstance(callback, Checkpoints) and callback.due(state):
                    with meter.paused():
                        self._check_numbers(state, callbacks)
                        callback.save(state)
            state.stopping = in_any(self._stop.is_set())
            if state.at_end or state.stopping:
                break
        self._check_numbers(state, callbacks)
        with meter.paused():
            for callback in callbacks if state.epoch_ended else ():
                callbacks.log(state, callback.on_epoch(state))
            for callback in callbacks if state.stopping else ():
                callback.on_stop(state)

    def _check_numbers(self, state: TrainState, callbacks: CallbackList) -> None:
        """Stops the run if a recorded loss or gradient, or a current weight, is NaN or infinite."""
        callbacks.report_nonfinite(state, find_nonfinite(state) or nonfinite_weights(state))


for _part in (Trainer, Checkpoints, Loader):  # their arguments are the keys of `trainer` in a config
    TRAINER.register(_part.__name__)(_part)
