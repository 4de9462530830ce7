"""`ssl-lib train`: trains the run that a config describes."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import time
from pathlib import Path
from typing import TextIO

from ssl_lib.cli.common import counted, find_config, print_skipped
from ssl_lib.cli.console import end_quietly_on_ctrl_c
from ssl_lib.cli.named_config import load_named
from ssl_lib.config.resolve import resolve
from ssl_lib.config.run_config import RunConfig
from ssl_lib.distributed import barrier, gather_objects, is_distributed, rank, started, world_size
from ssl_lib.distributed.signals import stop_on_signals
from ssl_lib.doctor import RunStatus, format_outside, format_steps, next_steps
from ssl_lib.errors import CheckpointError, ConfigError, DataError, NonFiniteLossError
from ssl_lib.experiment.build import Experiment, build_resolved, check_trainer
from ssl_lib.experiment.resume import check_resumed_config
from ssl_lib.optim.schedules import Schedule
from ssl_lib.runs.files import (
    CHECKPOINTS,
    CONFIG_FILE,
    METRICS_FILE,
    NONFINITE_FILE,
    delete_run,
    list_checkpoints,
    numbered_checkpoints,
    suggested_run,
)
from ssl_lib.runs.folder import RunFolder
from ssl_lib.training.callbacks import Diagnosis
from ssl_lib.training.checkpoint_folder import Checkpoint, open_checkpoint
from ssl_lib.training.run_lock import check_unlocked, run_lock
from ssl_lib.utils.printable import visible

__all__ = ["run_train"]


@started()
def run_train(options: argparse.Namespace) -> int:
    """Runs `ssl-lib train` and returns its exit code."""
    start = time.perf_counter()
    source = find_config(options.config)
    config = load_named(options.config, options.overrides)
    from_run = source == Path(options.config) / CONFIG_FILE and (source.parent / METRICS_FILE).exists()
    if from_run and not any(text.startswith("run_dir=") for text in options.overrides):
        config = dataclasses.replace(config, run_dir=options.config)  # the folder may have been moved
    config, run_dir = resolve(config), Path(config.run_dir)
    check_trainer(config)
    check_unlocked(run_dir)  # before the data is loaded, which may take minutes
    if list_checkpoints(run_dir) and not (options.resume or options.overwrite):
        raise ConfigError(
            f"{run_dir} already holds a run. Resume it with `ssl-lib train {shlex.quote(str(run_dir))} --resume`, "
            "delete it with --overwrite, or choose another folder with run_dir=..."
        )
    checkpoint = _find_last(run_dir, config, from_run) if options.resume else None
    if not from_run and checkpoint is None and source.resolve() == (run_dir / CONFIG_FILE).resolve():
        raise ConfigError(f"the run would overwrite {source} with its own config.yaml: choose another run_dir=...")
    experiment = build_resolved(config)
    if options.overwrite:
        with run_lock(run_dir):
            if rank() == 0:
                delete_run(run_dir, keep=NONFINITE_FILE if config.trainer["debug_nonfinite"] else None)
    barrier()
    _print_once(_description(experiment), sys.stderr)
    return _fit(experiment, run_dir, checkpoint, start)


def _fit(experiment: Experiment, run_dir: Path, checkpoint: Checkpoint | None, start: float) -> int:
    """Trains, prints how the run ended and the next commands, and returns the exit code."""
    evaluator, folder = experiment.evaluator, shlex.quote(str(run_dir))
    resume = f"resume with: ssl-lib train {folder} --resume"
    try:
        with stop_on_signals(experiment.trainer.stop) as received:
            state = experiment.fit(resume=checkpoint or False)
    except NonFiniteLossError as error:
        raise NonFiniteLossError(f"{error}{_how_to_debug(experiment, run_dir)}") from error
    except DataError as error:
        raise DataError(f"{error}{_what_is_saved(experiment, run_dir, resume)}") from error
    except KeyboardInterrupt:
        saved = f"stopped immediately, after the last checkpoint; {resume}"
        _print_once(f"\n{saved if list_checkpoints(run_dir) else 'nothing is saved yet: start again'}", sys.stderr)
        raise
    finally:
        evaluated = [evaluator.bank, evaluator.queries] if evaluator and rank() == 0 else []
        print_skipped(experiment.loader, *evaluated)
    if state.stopping:
        end_quietly_on_ctrl_c()
        done = f"{state.step} of {counted(state.total_steps, 'step')}"
        _print_once(f"stopped and saved after {done}; {resume}", sys.stderr)
        codes: list[int] = gather_objects(received.exit_code)
        return max(codes)  # not all processes may have received the signal
    seconds = f"{time.perf_counter() - start:.0f} s"
    _print_once(f"{counted(state.step - state.resumed_at, 'step')} in {seconds}. The run is in {run_dir}.", sys.stdout)
    if rank() == 0:
        _print_once(_summary(experiment, run_dir), sys.stdout)
    return 0


def _what_is_saved(experiment: Experiment, run_dir: Path, resume: str) -> str:
    """How to continue after an error: after the last update, only the evaluation can have failed."""
    if not list_checkpoints(run_dir):
        return ""
    steps = next(iter(numbered_checkpoints(run_dir / CHECKPOINTS)), (0,))[0]
    if steps < experiment.config.schedule.total_steps(experiment.loader.steps_per_epoch):
        return f"; the run is saved, {resume}"
    again = f"ssl-lib evaluate {shlex.quote(str(run_dir))}"
    return f"; the training is finished and saved, evaluate again with: {again}, with other settings if needed"


def _how_to_debug(experiment: Experiment, run_dir: Path) -> str:
    """How to find where a NaN arose: the command that repeats the steps with debugging on."""
    if experiment.trainer.debug_nonfinite:
        return ""
    again = "--resume" if list_checkpoints(run_dir) else "--overwrite"
    command = f"ssl-lib train {shlex.quote(str(run_dir))} {again} trainer.debug_nonfinite=true"
    rounding = ", where rounding may differ on CUDA" if experiment.trainer.precision.device.type == "cuda" else ""
    return f" To repeat the steps{rounding} and find the module in which it arose: {command}"


def _summary(experiment: Experiment, run_dir: Path) -> str:
    """The verdict on a finished run, metrics out of range, and the next commands; the doctor first if it warned."""
    doctor = next((c.doctor for c in experiment.trainer.callbacks if isinstance(c, Diagnosis)), None)
    status = RunStatus.read(run_dir, doctor)
    found = [finding.name for finding in doctor.findings] if doctor else []
    marked = [f"At the end, {format_outside(doctor)}."] if doctor and doctor.outside else []
    about = f"What went wrong: {', '.join(found)}" if found else "What each metric means"
    steps = [(about, f"ssl-lib doctor {status.quoted}")] if found or marked else []
    steps += [("What it learned, on one page", f"ssl-lib report {status.quoted}"), *next_steps(status)]
    steps.append(("Its backbone, in a script", f"ssl_lib.TrainedBackbone.from_run({str(run_dir)!r})"))
    return "\n".join([status.verdict, *marked, "Next:", format_steps(steps)])


def _print_once(text: str, stream: TextIO) -> None:
    """Prints in the first process."""
    if rank() == 0:
        print(visible(text), file=stream, flush=True)


def _find_last(run_dir: Path, config: RunConfig, from_run: bool) -> Checkpoint | None:
    """The checkpoint to resume from; None if the run was interrupted before its first one, and starts again.

    Settings that do not fit the checkpoint are refused; `from_run` says that they are the run's own, with changes.
    """
    if not list_checkpoints(run_dir):
        _check_restart(run_dir, config)
        _print_once(f"note: {run_dir} holds no checkpoint yet: the run starts again", sys.stderr)
        return None
    checkpoint = open_checkpoint(run_dir)
    try:
        check_resumed_config(config, checkpoint)
    except CheckpointError as error:
        if from_run or not (run_dir / CONFIG_FILE).is_file():
            raise
        own = f"ssl-lib train {shlex.quote(str(run_dir))} --resume"
        raise CheckpointError(f"{error}. To resume with the run's own config: {own}") from error
    return checkpoint


def _check_restart(run_dir: Path, config: RunConfig) -> None:
    """Refuses to start a run again that does not exist, or whose checkpoints have been lost."""
    if not (run_dir / CONFIG_FILE).is_file():
        raise CheckpointError(
            f"there is no run to resume at {run_dir}{suggested_run(run_dir) or '.'} To resume a run, give its folder: "
            "ssl-lib train RUN --resume; to start this one, leave out --resume"
        )
    lines = RunFolder(run_dir).metrics() or []  # an epoch's last line, after a save if one was due, has neither key
    epochs = max((line["epoch"] + (not {"loss", "skipped"} & line.keys()) for line in lines), default=0)
    saving = any((run_dir / CHECKPOINTS).glob("*.partial"))  # the run was killed during its first save
    if epochs >= min(config.trainer["save_every"], config.schedule.epochs) and not saving:
        raise CheckpointError(
            f"the checkpoints of {run_dir} are missing, although its metrics.jsonl has {counted(epochs, 'epoch')}: the "
            "run cannot be resumed. Start again in another run_dir=..., or with --overwrite, which deletes the run"
        )


def _description(experiment: Experiment) -> str:
    config, loader = experiment.config, experiment.loader
    precision = experiment.trainer.precision
    processes = f", {world_size()} processes" if is_distributed() else ""
    millions = sum(parameter.numel() for parameter in experiment.method.backbone.parameters()) / 1e6
    return (
        f"{config.method.name} on {config.data.name} ({counted(len(loader.data), 'image')}), "
        f"{config.backbone.name} ({millions:.2f} M parameters), {_length(config.schedule, loader.steps_per_epoch)}, "
        f"{precision.name} on {precision.device}{processes}"
    )


def _length(schedule: Schedule, steps_per_epoch: int) -> str:
    """`2 epochs of 46 steps`, or `69 steps, 46 per epoch`."""
    if schedule.epochs == int(schedule.epochs):
        return f"{counted(schedule.epochs, 'epoch')} of {counted(steps_per_epoch, 'step')}"
    return f"{counted(schedule.total_steps(steps_per_epoch), 'step')}, {steps_per_epoch:,} per epoch"
