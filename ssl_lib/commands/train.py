"""`ssl-lib train`: the run that a config describes."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from ssl_lib import distributed
from ssl_lib.build import Experiment, build
from ssl_lib.checkpoint import find_checkpoint, list_checkpoints
from ssl_lib.commands.common import counted, find_config, print_skipped
from ssl_lib.config import load_config
from ssl_lib.errors import ConfigError, NonFiniteLossError
from ssl_lib.signals import stop_on_signals

__all__ = ["add"]


def add(commands: Any) -> None:
    """Enters the command."""
    parser = commands.add_parser("train", allow_abbrev=False, help="train the run that a YAML config describes")
    parser.add_argument(
        "config", help="a YAML file, the name of a bundled config such as quickstart, or a run's folder"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes, such as trainer.batch_size=128")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    again.add_argument("--overwrite", action="store_true", help="delete an earlier run in the same folder")
    parser.set_defaults(run=_train, parallel=True)


def _train(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    source = find_config(options.config)
    config = load_config(source, options.overrides)
    of_run = source == Path(options.config) / "config.yaml" and (source.parent / "metrics.jsonl").exists()
    if of_run and not any(text.startswith("run_dir=") for text in options.overrides):
        config = dataclasses.replace(config, run_dir=options.config)  # the folder may have been moved
    run_dir = Path(config.run_dir)
    if list_checkpoints(run_dir) and not (options.resume or options.overwrite):
        raise ConfigError(
            f"{run_dir} holds a run already: go on with --resume, delete it with --overwrite, "
            "or choose another folder with run_dir=..."
        )
    checkpoint = _find_last(run_dir) if options.resume else None
    if not of_run:
        _check_source(source, run_dir, checkpoint is not None)
    experiment = build(config)
    if options.overwrite and distributed.rank() == 0:
        _delete_run(run_dir)
    distributed.barrier()
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
        print(f"\n{saved if list_checkpoints(run_dir) else 'nothing was saved yet: start again'}", file=sys.stderr)
        raise
    finally:
        print_skipped(experiment.loader, *([evaluator.bank, evaluator.queries] if evaluator else []))
    if state.stopping:
        done = f"{state.step} of {counted(state.total_steps, 'step')}"
        _say_once(f"stopped and saved after {done}; {go_on}", sys.stderr)
        return received.exit_code
    again = f", or score it with other settings: ssl-lib evaluate {folder} evaluation.knn.k=200" if evaluator else ""
    _say_once(
        f"{counted(state.step - state.resumed_at, 'step')} in {time.perf_counter() - start:.0f} s. "
        f"The run is in {run_dir}: take its backbone with ssl_lib.load_method({str(run_dir)!r}).encoder{again}",
        sys.stdout,
    )
    return 0


def _say_once(text: str, stream: TextIO) -> None:
    """Prints in the first process."""
    if distributed.rank() == 0:
        print(text, file=stream, flush=True)


def _find_last(run_dir: Path) -> Path | None:
    """The checkpoint to go on from; None where the run was broken off before its first, and begins again."""
    if not list_checkpoints(run_dir) and (run_dir / "config.yaml").is_file():
        _say_once(f"note: {run_dir} holds no checkpoint yet: the run begins again", sys.stderr)
        return None
    return find_checkpoint(run_dir)


def _description(experiment: Experiment) -> str:
    config, loader = experiment.config, experiment.loader
    precision = experiment.trainer.precision
    processes = f", {distributed.world_size()} processes" if distributed.is_distributed() else ""
    millions = sum(parameter.numel() for parameter in experiment.method.backbone.parameters()) / 1e6
    return (
        f"{config.method.name} on {config.data.name} ({counted(len(loader.data), 'image')}), "
        f"{config.backbone.name} ({millions:.2f} M parameters), {counted(config.schedule.epochs, 'epoch')} of "
        f"{counted(loader.steps_per_epoch, 'step')}, {precision.name} on {precision.device}{processes}"
    )


def _check_source(source: Path, run_dir: Path, resume: bool) -> None:
    """Keeps a config of the user's own from being written over by the run's."""
    if not resume and source.resolve() == (run_dir / "config.yaml").resolve():
        raise ConfigError(f"{source} is where the run writes its own config.yaml: choose another run_dir=...")


def _delete_run(run_dir: Path) -> None:
    """Removes what an earlier run wrote, and nothing else in its folder."""
    checkpoints = run_dir / "checkpoints"
    names = ("last.pt", "best.pt", "step_*.pt", "epoch_*.pt", "*.pt.partial")
    files = [run_dir / "metrics.jsonl", *run_dir.glob("evaluation*.json"), *run_dir.glob("nonfinite.*")]
    files.append(run_dir / "diagnosis.json")
    for path in [*files, *(path for name in names for path in checkpoints.glob(name))]:
        path.unlink(missing_ok=True)
