"""The command line: `ssl-lib train | evaluate | list`."""

from __future__ import annotations

import argparse
import inspect
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import ssl_lib
from ssl_lib.build import Experiment, build, load_run
from ssl_lib.callbacks.evaluation import write_results
from ssl_lib.checkpoint import find_checkpoint, load_checkpoint
from ssl_lib.config import load_config
from ssl_lib.errors import ConfigError, SSLError, did_you_mean
from ssl_lib.evaluation import format_table
from ssl_lib.precision import resolve_device
from ssl_lib.registry import BACKBONES, DATASETS, LOSSES, METHODS, OPTIMIZERS, PRESETS

__all__ = ["main"]

_KINDS = {
    "methods": METHODS,
    "losses": LOSSES,
    "backbones": BACKBONES,
    "data": DATASETS,
    "views": PRESETS,
    "optimizers": OPTIMIZERS,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for a user's error, 130 when interrupted."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    stray = [text for text in rest if text.startswith("-") or "=" not in text or not hasattr(options, "overrides")]
    if stray:
        parser.error(f"unknown argument {stray[0]!r}")
    if rest:  # overrides that stand behind an option
        options.overrides = [*options.overrides, *rest]
    try:
        options.run(options)
    except SSLError as error:
        print(f"ssl-lib: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nssl-lib: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("ssl-lib", description="Self-supervised learning on images", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ssl_lib {ssl_lib.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", allow_abbrev=False, help="train the run that a YAML config describes")
    train.add_argument("config", help="a YAML file, or the name of a bundled config such as quickstart")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="changes, such as trainer.batch_size=128")
    again = train.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    again.add_argument("--overwrite", action="store_true", help="delete an earlier run in the same folder")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser(
        "evaluate", allow_abbrev=False, help="score a trained run beside random weights and raw pixels"
    )
    evaluate.add_argument("target", metavar="RUN", help="a run's folder, or one checkpoint file")
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help="changes, such as evaluation.knn.k=200")
    evaluate.set_defaults(run=_evaluate)

    listing = commands.add_parser("list", allow_abbrev=False, help="what can be named in a config")
    listing.add_argument("kind", nargs="?", help=f"one of {', '.join([*_KINDS, 'configs'])}; all of them by default")
    listing.set_defaults(run=_list)
    return parser


def _train(options: argparse.Namespace) -> None:
    start = time.perf_counter()
    source = _find_config(options.config)
    config = load_config(source, options.overrides)
    run_dir = Path(config.run_dir)
    last = run_dir / "checkpoints" / "last.pt"
    if last.exists() and not (options.resume or options.overwrite):
        raise ConfigError(
            f"{run_dir} holds a run already: go on with --resume, delete it with --overwrite, "
            "or choose another folder with run_dir=..."
        )
    if options.resume:
        find_checkpoint(run_dir)
    _check_source(source, run_dir, options.resume)
    experiment = build(config)
    if options.overwrite:
        _delete_run(run_dir)
    _describe(experiment)
    try:
        state = experiment.fit(resume=options.resume)
    except KeyboardInterrupt:
        if last.exists():
            print(f"\nto go on from the last checkpoint: ssl-lib train {run_dir}/config.yaml --resume", file=sys.stderr)
        raise
    finally:
        for path in _skipped(experiment):
            print(f"skipped, unreadable: {path}", file=sys.stderr)
    seconds = time.perf_counter() - start
    print(f"{state.step} steps in {seconds:.0f} s. The run is in {run_dir}; next: ssl-lib evaluate {run_dir}")


def _evaluate(options: argparse.Namespace) -> None:
    path = find_checkpoint(options.target)
    experiment = load_run(path, options.overrides)
    evaluator = experiment.evaluator
    if evaluator is None:
        raise ConfigError("there is nothing to evaluate: the data have no labelled images, or knn and linear are null")
    encoder = experiment.method.encoder.to(resolve_device(experiment.config.trainer.device))
    results = evaluator(encoder)
    print(format_table(results, evaluator.protocols))
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    name = "evaluation.json" if path.stem == "last" else f"evaluation_{path.stem}.json"
    write_results(folder / name, evaluator, results, load_checkpoint(path)["step"])


def _list(options: argparse.Namespace) -> None:
    kinds = [*_KINDS, "configs"]
    if options.kind is not None and options.kind not in kinds:
        raise ConfigError(f"unknown kind {options.kind!r}.{did_you_mean(options.kind, kinds)}")
    for kind in kinds if options.kind is None else [options.kind]:
        if options.kind is None:
            print(f"{kind}:")
        for name, summary in _entries(kind):
            print(f"  {name:<24} {summary}".rstrip())


def _entries(kind: str) -> list[tuple[str, str]]:
    if kind == "configs":
        folder = _config_folder()
        return [(str(path.relative_to(folder).with_suffix("")), "") for path in sorted(folder.rglob("*.yaml"))]
    registry = _KINDS[kind]
    return [(name, (inspect.getdoc(registry[name]) or "").partition("\n")[0]) for name in registry]


def _describe(experiment: Experiment) -> None:
    config, loader = experiment.config, experiment.loader
    precision = experiment.trainer.precision
    millions = sum(parameter.numel() for parameter in experiment.method.backbone.parameters()) / 1e6
    print(
        f"{config.method.name} on {config.data.name} ({len(loader.data):,} images), "
        f"{config.backbone.name} ({millions:.2f} M parameters), "
        f"{config.schedule.epochs:g} epochs of {loader.steps_per_epoch} steps, {precision.name} on {precision.device}",
        flush=True,
    )


def _find_config(name: str) -> Path:
    """The file itself; or, for a bare name or one under `configs/`, a bundled config."""
    if Path(name).is_file():
        return Path(name)
    short = name.removesuffix(".yaml").removeprefix("configs/")
    bundled = _config_folder() / f"{short}.yaml"
    if not name.startswith((".", "/", "~")) and bundled.is_file():
        return bundled
    hint = did_you_mean(short, [entry for entry, _ in _entries("configs")])
    raise ConfigError(f"no config {name!r}, neither a file nor a bundled one.{hint}")


def _config_folder() -> Path:
    """The bundled configs: inside the installed package, or beside it in a checkout."""
    package = Path(ssl_lib.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _skipped(experiment: Experiment) -> list[str]:
    """Files that training or evaluation left out, each once."""
    evaluator = experiment.evaluator
    parts = [experiment.loader, *([evaluator.bank, evaluator.queries] if evaluator else [])]
    return list(dict.fromkeys(path for part in parts for path in getattr(part, "skipped", ())))


def _check_source(source: Path, run_dir: Path, resume: bool) -> None:
    """Keeps a config of the user's own from being written over by the run's."""
    if not resume and source.resolve() == (run_dir / "config.yaml").resolve():
        raise ConfigError(f"{source} is where the run writes its own config.yaml: choose another run_dir=...")


def _delete_run(run_dir: Path) -> None:
    """Removes what an earlier run wrote, and nothing else in its folder."""
    checkpoints = run_dir / "checkpoints"
    files = [run_dir / "metrics.jsonl", *run_dir.glob("evaluation*.json"), checkpoints / "last.pt"]
    for path in [*files, *checkpoints.glob("epoch_*.pt"), *checkpoints.glob("*.pt.partial")]:
        path.unlink(missing_ok=True)
