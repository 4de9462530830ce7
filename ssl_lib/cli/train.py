"""`ssl-lib train`: the run that a config describes."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import time
from pathlib import Path
from typing import TextIO

from ssl_lib.cli.common import counted, find_config, print_skipped
from ssl_lib.config.load import load_config
from ssl_lib.config.resolve import resolve
from ssl_lib.config.run_config import RunConfig
from ssl_lib.distributed import barrier, gather_objects, is_distributed, rank, started, world_size
from ssl_lib.distributed.signals import stop_on_signals
from ssl_lib.errors import CheckpointError, ConfigError, NonFiniteLossError
from ssl_lib.experiment.build import Experiment, build
from ssl_lib.optim.schedules import Schedule
from ssl_lib.runs.files import CHECKPOINTS, CONFIG_FILE, METRICS_FILE, delete_run, list_checkpoints
from ssl_lib.runs.metrics import read_metrics
from ssl_lib.training.callbacks import Diagnosis
from ssl_lib.training.checkpoint_folder import find_checkpoint
from ssl_lib.training.run_lock import check_unlocked, run_lock

__all__ = ["run_train"]


@started()
def run_train(options: argparse.Namespace) -> int:
    """Runs `ssl-lib train`, and returns its exit code."""
    start = time.perf_counter()
    source = find_config(options.config, options.resume)
    config = load_config(source, options.overrides)
    of_run = source == Path(options.config) / CONFIG_FILE and (source.parent / METRICS_FILE).exists()
    if of_run and not any(text.startswith("run_dir=") for text in options.overrides):
        config = dataclasses.replace(config, run_dir=options.config)  # the folder may have been moved
    config, run_dir = resolve(config), Path(config.run_dir)
    check_unlocked(run_dir)  # now, as the data may take minutes
    if list_checkpoints(run_dir) and not (options.resume or options.overwrite):
        again = shlex.join(["ssl-lib", "train", options.config, *options.overrides, "--resume"])
        raise ConfigError(
            f"{run_dir} holds a run already: go on with it by `{again}`, delete it with --overwrite, or choose another "
            "folder with run_dir=..."
        )
    checkpoint = _find_last(run_dir, config) if options.resume else None
    if not of_run:
        _check_source(source, run_dir, checkpoint is not None)
    experiment = build(config)
    if options.overwrite:
        with run_lock(run_dir):
            if rank() == 0:
                delete_run(run_dir)
    barrier()
    _say_once(_description(experiment), sys.stderr)
    return _fit(experiment, run_dir, checkpoint, start)


def _fit(experiment: Experiment, run_dir: Path, checkpoint: Path | None, start: float) -> int:
    """Trains, says how it ended and what can be done next, and returns the exit code."""
    evaluator, folder = experiment.evaluator, shlex.quote(str(run_dir))
    go_on = f"go on with: ssl-lib train {folder} --resume"
    try:
        with stop_on_signals(experiment.trainer.stop) as received:
            state = experiment.fit(resume=checkpoint or False)
    except NonFiniteLossError as error:
        again = f"ssl-lib replay {folder}"
        raise NonFiniteLossError(f"{error} To repeat that step and see where it arose: {again}") from error
    except KeyboardInterrupt:
        saved = f"ended at once, after the last checkpoint; {go_on}"
        _say_once(f"\n{saved if list_checkpoints(run_dir) else 'nothing was saved yet: start again'}", sys.stderr)
        raise
    finally:
        evaluated = [evaluator.bank, evaluator.queries] if evaluator and rank() == 0 else []
        print_skipped(experiment.loader, *evaluated)
    if state.stopping:
        done = f"{state.step} of {counted(state.total_steps, 'step')}"
        _say_once(f"stopped and saved after {done}; {go_on}", sys.stderr)
        codes: list[int] = gather_objects(received.exit_code)
        return max(codes)  # not all may have received the signal
    seconds = f"{time.perf_counter() - start:.0f} s"
    _say_once(f"{counted(state.step - state.resumed_at, 'step')} in {seconds}. The run is in {run_dir}:", sys.stdout)
    _say_once("\n".join(_next_steps(experiment, run_dir)), sys.stdout)
    return 0


def _next_steps(experiment: Experiment, run_dir: Path) -> list[str]:
    """What can be done with a finished run, a line each; first of all with one that raised an alarm."""
    folder = shlex.quote(str(run_dir))
    found = [f.name for c in experiment.trainer.callbacks if isinstance(c, Diagnosis) for f in c.findings]
    steps = [(f"ssl-lib doctor {folder}", f"what went wrong: {', '.join(found)}")] if found else []
    steps.append((f"ssl-lib report {folder}", "what it learned, on a page"))
    if experiment.evaluator is not None:
        steps.append((f"ssl-lib evaluate {folder} logistic retrieval spectrum", "more figures of it"))
    steps.append((f"ssl_lib.TrainedBackbone.from_run({str(run_dir)!r})", "its backbone, in a script"))
    width = max(len(command) for command, _ in steps)
    return [f"  {command:<{width}}  # {about}" for command, about in steps]


def _say_once(text: str, stream: TextIO) -> None:
    """Prints in the first process."""
    if rank() == 0:
        print(text, file=stream, flush=True)


def _find_last(run_dir: Path, config: RunConfig) -> Path | None:
    """The checkpoint to go on from; None where the run was broken off before its first, and begins again."""
    if list_checkpoints(run_dir) or not (run_dir / CONFIG_FILE).is_file():
        return find_checkpoint(run_dir)
    epochs = _epochs_logged(run_dir / METRICS_FILE)
    saving = any((run_dir / CHECKPOINTS).glob("*.partial"))  # the first save, which the run did not outlive
    if epochs >= min(config.trainer.save_every, config.schedule.epochs) and not saving:
        raise CheckpointError(
            f"the checkpoints of {run_dir} are gone: without them it cannot go on, though its metrics.jsonl tells of "
            f"{counted(epochs, 'epoch')}. Start anew in another run_dir=..., or with --overwrite, which deletes it"
        )
    _say_once(f"note: {run_dir} holds no checkpoint yet: the run begins again", sys.stderr)
    return None


def _epochs_logged(path: Path) -> int:
    """Epochs that were over, and saved where one was due, when the last line was written."""
    entries = read_metrics(path) if path.is_file() else []
    return max((entry["epoch"] + (not {"loss", "skipped"} & entry.keys()) for entry in entries), default=0)


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
    """`2 epochs of 46 steps`, or `69 steps, 46 to an epoch`."""
    if schedule.epochs == int(schedule.epochs):
        return f"{counted(schedule.epochs, 'epoch')} of {counted(steps_per_epoch, 'step')}"
    return f"{counted(schedule.total_steps(steps_per_epoch), 'step')}, {steps_per_epoch:,} to an epoch"


def _check_source(source: Path, run_dir: Path, resume: bool) -> None:
    """Keeps a config of the user's own from being written over by the run's."""
    if not resume and source.resolve() == (run_dir / CONFIG_FILE).resolve():
        raise ConfigError(f"{source} is where the run writes its own config.yaml: choose another run_dir=...")
