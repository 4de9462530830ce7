"""`ssl-lib train`: the run that a config describes."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from ssl_lib import distributed
from ssl_lib.build import Experiment, build
from ssl_lib.checkpoint import find_checkpoint
from ssl_lib.commands.common import counted, find_config, print_skipped
from ssl_lib.config import load_config
from ssl_lib.errors import ConfigError, NonFiniteLossError

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
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    start, first = time.perf_counter(), distributed.rank() == 0
    source = find_config(options.config)
    config = load_config(source, options.overrides)
    of_run = source == Path(options.config) / "config.yaml" and (source.parent / "metrics.jsonl").exists()
    if of_run and not any(text.startswith("run_dir=") for text in options.overrides):
        config = dataclasses.replace(config, run_dir=options.config)  # the folder may have been moved
    run_dir = Path(config.run_dir)
    last = run_dir / "checkpoints" / "last.pt"
    if last.exists() and not (options.resume or options.overwrite):
        raise ConfigError(
            f"{run_dir} holds a run already: go on with --resume, delete it with --overwrite, "
            "or choose another folder with run_dir=..."
        )
    if options.resume:
        find_checkpoint(run_dir)
    if not of_run:
        _check_source(source, run_dir, options.resume)
    experiment = build(config)
    if options.overwrite and first:
        _delete_run(run_dir)
    distributed.barrier()
    if first:
        _describe(experiment)
    try:
        state = experiment.fit(resume=options.resume)
    except NonFiniteLossError as error:
        again = f"ssl-lib replay {shlex.quote(str(run_dir))}"
        raise NonFiniteLossError(f"{error} To repeat that step and see where it arose: {again}") from error
    except KeyboardInterrupt:
        saved = f"to go on from the last checkpoint: ssl-lib train {shlex.quote(str(run_dir))} --resume"
        unsaved = "nothing was saved yet, as the first epoch was not over: start again with the same command"
        print(f"\n{saved if last.exists() else unsaved}", file=sys.stderr)
        raise
    finally:
        evaluator = experiment.evaluator
        print_skipped(experiment.loader, *([evaluator.bank, evaluator.queries] if evaluator else []))
    if not first:
        return
    again = f", or score it with other settings: ssl-lib evaluate {shlex.quote(str(run_dir))} evaluation.knn.k=200"
    print(
        f"{counted(state.step - state.resumed_at, 'step')} in {time.perf_counter() - start:.0f} s. "
        f"The run is in {run_dir}: take its backbone with ssl_lib.load_method({str(run_dir)!r}).encoder"
        f"{again if evaluator else ''}"
    )


def _describe(experiment: Experiment) -> None:
    config, loader = experiment.config, experiment.loader
    precision = experiment.trainer.precision
    processes = f", {distributed.world_size()} processes" if distributed.is_distributed() else ""
    millions = sum(parameter.numel() for parameter in experiment.method.backbone.parameters()) / 1e6
    print(
        f"{config.method.name} on {config.data.name} ({counted(len(loader.data), 'image')}), "
        f"{config.backbone.name} ({millions:.2f} M parameters), {counted(config.schedule.epochs, 'epoch')} of "
        f"{counted(loader.steps_per_epoch, 'step')}, {precision.name} on {precision.device}{processes}",
        file=sys.stderr,
        flush=True,
    )


def _check_source(source: Path, run_dir: Path, resume: bool) -> None:
    """Keeps a config of the user's own from being written over by the run's."""
    if not resume and source.resolve() == (run_dir / "config.yaml").resolve():
        raise ConfigError(f"{source} is where the run writes its own config.yaml: choose another run_dir=...")


def _delete_run(run_dir: Path) -> None:
    """Removes what an earlier run wrote, and nothing else in its folder."""
    checkpoints = run_dir / "checkpoints"
    files = [run_dir / "metrics.jsonl", *run_dir.glob("evaluation*.json"), checkpoints / "last.pt"]
    files += [run_dir / "nonfinite.json", run_dir / "nonfinite.pt"]
    for path in [*files, *checkpoints.glob("epoch_*.pt"), *checkpoints.glob("*.pt.partial")]:
        path.unlink(missing_ok=True)
