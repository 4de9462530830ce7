"""The command line: `ssl-lib train | evaluate | list`."""

from __future__ import annotations

import argparse
import inspect
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import ssl_lib
from ssl_lib.build import Experiment, build, load_run
from ssl_lib.callbacks.evaluation import write_results
from ssl_lib.checkpoint import find_checkpoint, load_checkpoint
from ssl_lib.config import load_config, to_yaml
from ssl_lib.errors import ConfigError, SSLError, did_you_mean
from ssl_lib.evaluation import format_table
from ssl_lib.precision import Precision, resolve_device
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
    options.overrides = [*getattr(options, "overrides", ()), *rest]
    stray = [text for text in rest if text.startswith("-") or "=" not in text]
    if stray:
        parser.error(f"unknown option {stray[0]!r}")
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
    parser = argparse.ArgumentParser("ssl-lib", description="Self-supervised learning on images.")
    parser.add_argument("--version", action="version", version=f"ssl_lib {ssl_lib.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train the run that a YAML config describes")
    train.add_argument("config", help="a YAML file, or the name of a bundled config such as quickstart")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="changes, such as trainer.batch_size=128")
    again = train.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    again.add_argument("--overwrite", action="store_true", help="delete an earlier run in the same folder")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="score a trained run beside random weights and raw pixels")
    evaluate.add_argument("target", metavar="RUN", help="a run's folder, or one checkpoint file")
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help="changes, such as evaluation.knn.k=200")
    evaluate.set_defaults(run=_evaluate)

    listing = commands.add_parser("list", help="what can be named in a config")
    listing.add_argument("kind", nargs="?", help=f"one of {', '.join([*_KINDS, 'configs'])}; all of them by default")
    listing.set_defaults(run=_list)
    return parser


def _train(options: argparse.Namespace) -> None:
    start = time.perf_counter()
    config = load_config(_find_config(options.config), options.overrides)
    run_dir = Path(config.run_dir)
    finished_before = (run_dir / "checkpoints" / "last.pt").exists() or (run_dir / "metrics.jsonl").exists()
    if finished_before and not (options.resume or options.overwrite):
        raise ConfigError(
            f"{run_dir} holds a run already: go on with --resume, delete it with --overwrite, "
            "or choose another folder with run_dir=..."
        )
    if options.resume:
        find_checkpoint(run_dir)
    experiment = build(config)
    if options.overwrite:
        _delete_run(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text(to_yaml(experiment.config), encoding="utf-8")
    _describe(experiment)
    try:
        state = experiment.fit(resume=options.resume)
    except KeyboardInterrupt:
        print(f"\nto go on from the last checkpoint: ssl-lib train {options.config} --resume", file=sys.stderr)
        raise
    for path in experiment.loader.skipped:
        print(f"skipped, unreadable: {path}", file=sys.stderr)
    print(f"{state.step} steps in {time.perf_counter() - start:.0f} s. The run is in {run_dir}; "
          f"next: ssl-lib evaluate {run_dir}")  # fmt: skip


def _evaluate(options: argparse.Namespace) -> None:
    path = find_checkpoint(options.target)
    experiment = load_run(path, options.overrides)
    if experiment.evaluator is None:
        raise ConfigError("this run's config has evaluation off, or its data have no labels: "
                          "set evaluation.every_epochs=1 and labelled data")  # fmt: skip
    encoder = experiment.method.encoder.to(experiment.evaluator.device)
    results = experiment.evaluator(encoder)
    print(format_table(results, experiment.evaluator.protocols))
    target = Path(options.target)
    folder = target if target.is_dir() else target.parent
    write_results(folder / "evaluation.json", experiment.evaluator, results, load_checkpoint(path)["step"])


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
    precision = Precision.resolve(config.trainer.precision, resolve_device(config.trainer.device))
    millions = sum(parameter.numel() for parameter in experiment.method.backbone.parameters()) / 1e6
    print(
        f"{config.method.name} on {config.data.name} ({len(loader.data):,} images), "
        f"{config.backbone.name} ({millions:.2f} M parameters), "
        f"{config.schedule.epochs:g} epochs of {loader.steps_per_epoch} steps, {precision.name} on {precision.device}",
        flush=True,
    )


def _find_config(name: str) -> Path:
    """The file itself, or a bundled config by its name."""
    short = name.removesuffix(".yaml").removeprefix("configs/")
    for path in (Path(name), _config_folder() / f"{short}.yaml"):
        if path.is_file():
            return path
    hint = did_you_mean(short, [entry for entry, _ in _entries("configs")])
    raise ConfigError(f"no config {name!r}, neither a file nor a bundled one.{hint}")


def _config_folder() -> Path:
    """The bundled configs: inside the installed package, or beside it in a checkout."""
    package = Path(ssl_lib.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _delete_run(run_dir: Path) -> None:
    """Removes what a run writes, and nothing else in its folder."""
    for name in ("metrics.jsonl", "evaluation.json", "config.yaml"):
        (run_dir / name).unlink(missing_ok=True)
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
