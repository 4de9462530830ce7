"""`ssl-lib evaluate`: a trained run beside random weights and raw pixels."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ssl_lib.cli.common import counted, print_skipped
from ssl_lib.distributed import rank, started
from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.evaluation import add_results, write_results
from ssl_lib.experiment.load import load_run
from ssl_lib.registry import DATASETS
from ssl_lib.runs.files import evaluation_file
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.checkpoint_folder import find_checkpoint
from ssl_lib.utils.files import check_writable
from ssl_lib.utils.precision import resolve_device

__all__ = ["run_evaluate"]


@started()
def run_evaluate(options: argparse.Namespace) -> None:
    """Runs `ssl-lib evaluate`."""
    path = find_checkpoint(options.run)
    names = [word for word in options.overrides if "=" not in word]
    changes = [*_data(options.data, path), *(word for word in options.overrides if "=" in word)]
    target = evaluation_file(path)
    if options.output or not changes:
        check_writable(Path(options.output or target), "results.json")
    run = load_run(path, changes, names)
    evaluator = run.evaluator
    if evaluator is None:
        raise ConfigError(
            "there is nothing to evaluate: it takes labeled training and test images (of a folder, class folders "
            "inside of `train` and `val` or `test`), and a protocol that is not null"
        )
    if changes and not options.output and rank() == 0:
        print(f"note: of changed settings {target.name} keeps nothing; --output FILE does", file=sys.stderr)
    results = evaluator(run.method.encoder.to(resolve_device(run.config.trainer.device)))
    if rank() > 0:
        return
    print_skipped(evaluator.bank, evaluator.queries)
    print(results.table())
    if options.output:
        target = Path(options.output)
        write_results(target, evaluator, results, run.steps, run=options.run, changes=changes)
    elif changes:
        return
    else:
        add_results(target, evaluator, results, run.steps)
    print(f"after {counted(run.steps, 'step')} of training; written to {target}", file=sys.stderr)


def _data(given: str | None, checkpoint: Path) -> list[str]:
    """The override that takes other images; those of a folder are read and normalized as the run's were."""
    if given is None:
        return []
    root = Path(given).expanduser()
    if not root.is_dir():
        if "{" not in given and given not in DATASETS:
            raise ConfigError(f"--data: {given} is no folder, and no data set.{did_you_mean(given, DATASETS)}")
        return [f"data={given}"]
    known = load_checkpoint(checkpoint).get("preprocessing") or {}
    like = {key: list(known[key]) for key in ("mean", "std") if known}
    if (root / "train" / "images.npy").exists():
        return [f"data={_as_yaml({'name': 'arrays', 'path': str(root), **like})}"]
    channels = {"channels": len(like["mean"])} if like else {}
    return [f"data={_as_yaml({'name': 'image_folder', 'root': str(root), **channels, **like})}"]


def _as_yaml(value: object) -> str:
    """As JSON, but for signs beyond its first plane, which YAML does not join from two."""
    return json.dumps(value, ensure_ascii=False)
