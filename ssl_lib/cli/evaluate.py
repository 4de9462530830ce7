"""`ssl-lib evaluate`: evaluates a trained run next to random weights and raw pixels."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ssl_lib.cli.common import counted, parse_changes, print_skipped
from ssl_lib.distributed import rank, started
from ssl_lib.doctor.next_steps import LABELED_FOLDER
from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.evaluation import add_results, write_results
from ssl_lib.experiment.load import TrainedRun, load_run, saved_preprocessing
from ssl_lib.registry import DATASETS
from ssl_lib.runs.files import evaluation_file
from ssl_lib.training.checkpoint_folder import Checkpoint, open_checkpoint
from ssl_lib.utils.files import check_writable
from ssl_lib.utils.precision import resolve_device
from ssl_lib.utils.yaml import parse_yaml

__all__ = ["run_evaluate"]

_NAMES = 6  # of a folder's content, in an error


@started()
def run_evaluate(options: argparse.Namespace) -> None:
    """Runs `ssl-lib evaluate`."""
    checkpoint = open_checkpoint(options.run)
    names = [word for word in options.overrides if "=" not in word]
    texts = [word for word in options.overrides if "=" in word]
    changes = {**_data(options.data, checkpoint), **parse_changes(texts)}
    target = evaluation_file(checkpoint.path)
    if options.output or not changes:
        check_writable(Path(options.output or target), "results.json")
    run = load_run(checkpoint, changes, names)
    evaluator = run.evaluator
    if evaluator is None:
        raise _nothing_to_evaluate(run, options.data)
    if changes and not options.output and rank() == 0:
        print(
            f"note: settings were changed, so {target.name} is not updated; use --output FILE to keep the results",
            file=sys.stderr,
        )
    results = evaluator(run.method.encoder.to(resolve_device(run.config.trainer["device"])))
    if rank() > 0:
        return
    print_skipped(evaluator.bank, evaluator.queries)
    print(results.table())
    if options.output:
        target = Path(options.output)
        given = [f"--data {options.data}", *texts] if options.data else texts
        write_results(target, evaluator, results, run.steps, run=options.run, changes=given)
    elif changes:
        return
    else:
        add_results(target, evaluator, results, run.steps)
    print(f"after {counted(run.steps, 'step')} of training; written to {target}", file=sys.stderr)


def _nothing_to_evaluate(run: TrainedRun, folder: str | None) -> ConfigError:
    """The error for images without labels, or without protocols; says how a folder must look, and what it holds."""
    if all(arguments is None for arguments in run.config.evaluation.protocols.values()):
        return ConfigError("there is nothing to evaluate: every protocol is null; name one, such as knn")
    if folder is None:
        return ConfigError(
            "there is nothing to evaluate: the run's data have no labeled training and test images. Give some with "
            f"--data FOLDER, {LABELED_FOLDER}"
        )
    holds = ""
    if os.path.isdir(path := os.path.expanduser(folder)):
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in os.scandir(path))
        holds = f"; it holds {', '.join(names[:_NAMES])}{', ...' if len(names) > _NAMES else ''}"
    return ConfigError(
        f"--data {folder}: there are no labeled training and test images. It must be {LABELED_FOLDER}, such as "
        f"train/cat/1.jpg and val/cat/2.jpg{holds}"
    )


def _data(given: str | None, checkpoint: Checkpoint) -> dict[str, Any]:
    """The change that selects other images; a folder's images get the run's channels and normalization."""
    if given is None:
        return {}
    root = Path(given).expanduser()
    if not root.is_dir():
        if "{" not in given and given not in DATASETS:
            hint = did_you_mean(given, DATASETS)
            raise ConfigError(f"--data: {given} is neither a folder nor a data set.{hint} Or give {LABELED_FOLDER}")
        return {"data": parse_yaml(given, "--data")}
    known = saved_preprocessing(checkpoint)
    like = {"mean": list(known.mean), "std": list(known.std)}
    if (root / "train" / "images.npy").exists():
        return {"data": {"name": "arrays", "path": str(root), **like}}
    reading = {key: value for key, value in known.plain().items() if key in known.reading}
    return {"data": {"name": "image_folder", "root": str(root), "channels": known.channels, **like, **reading}}
