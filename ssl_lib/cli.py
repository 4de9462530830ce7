"""The command line: `ssl-lib train | evaluate | list`."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import inspect
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import ssl_lib
from ssl_lib.build import Experiment, build
from ssl_lib.callbacks.evaluation import write_results
from ssl_lib.checkpoint import find_checkpoint
from ssl_lib.config import load_config
from ssl_lib.errors import ConfigError, SSLError, did_you_mean
from ssl_lib.evaluation import format_table
from ssl_lib.precision import resolve_device
from ssl_lib.registry import BACKBONES, DATASETS, LOSSES, METHODS, OPTIMIZERS, PRESETS
from ssl_lib.resolve import GIVEN
from ssl_lib.runs import load_run
from ssl_lib.schema import REQUIRED, arguments_of
from ssl_lib.views import ViewConfig

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
        key = stray[0].lstrip("-")
        hint = f": write {key}, without dashes" if "=" in key and hasattr(options, "overrides") else ""
        parser.error(f"unknown argument {stray[0]!r}{hint}")
    if rest:  # overrides that stand behind an option
        options.overrides = [*options.overrides, *rest]
    try:
        options.run(options)
    except (SSLError, OSError) as error:
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
    train.add_argument("config", help="a YAML file, the name of a bundled config such as quickstart, or a run's folder")
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
    evaluate.add_argument(
        "--output", metavar="FILE", help="JSON file; evaluation.json in the run if nothing is changed"
    )
    evaluate.set_defaults(run=_evaluate)

    listing = commands.add_parser("list", allow_abbrev=False, help="what can be named in a config")
    listing.add_argument("kind", nargs="?", help=f"one of {', '.join([*_KINDS, 'configs'])}; all of them by default")
    listing.add_argument("name", nargs="?", help="a part of that kind, to see its arguments")
    listing.set_defaults(run=_list)
    return parser


def _train(options: argparse.Namespace) -> None:
    start = time.perf_counter()
    source = _find_config(options.config)
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
    if options.overwrite:
        _delete_run(run_dir)
    _describe(experiment)
    try:
        state = experiment.fit(resume=options.resume)
    except KeyboardInterrupt:
        saved = f"to go on from the last checkpoint: ssl-lib train {shlex.quote(str(run_dir))} --resume"
        print(f"\n{saved if last.exists() else 'nothing was saved yet'}", file=sys.stderr)
        raise
    finally:
        evaluator = experiment.evaluator
        _list_skipped(experiment.loader, *([evaluator.bank, evaluator.queries] if evaluator else []))
    command = f"ssl-lib evaluate {shlex.quote(str(run_dir))}"
    backbone = f"load_method({str(run_dir)!r}).encoder in a script"
    print(
        f"{_counted(state.step, 'step')} done, in {time.perf_counter() - start:.0f} s this time. "
        f"The run is in {run_dir}; next: {command if evaluator else backbone}"
    )


def _evaluate(options: argparse.Namespace) -> None:
    path = find_checkpoint(options.target)
    run = load_run(path, options.overrides)
    evaluator = run.evaluator
    if evaluator is None:
        raise ConfigError("there is nothing to evaluate: the data have no labelled images, or knn and linear are null")
    results = evaluator(run.method.encoder.to(resolve_device(run.config.trainer.device)))
    _list_skipped(evaluator.bank, evaluator.queries)
    print(format_table(results, evaluator.protocols))
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    name = "evaluation.json" if path.stem == "last" else f"evaluation_{path.stem}.json"
    if options.output or not options.overrides:
        write_results(Path(options.output or folder / name), evaluator, results, run.steps)
    else:
        print(f"{name} is left as it was, as settings were changed; --output FILE writes these", file=sys.stderr)


def _list(options: argparse.Namespace) -> None:
    kinds = [*_KINDS, "configs"]
    if options.kind is None:
        for kind in kinds:
            print(f"{kind}:")
            for name, summary in _collapsed(_entries(kind), kind):
                print(f"  {name:<24} {summary}".rstrip())
        print("\nssl-lib list KIND NAME shows a part's arguments.")
        return
    if options.kind not in kinds:
        raise ConfigError(f"unknown kind {options.kind!r}.{did_you_mean(options.kind, kinds)}")
    if options.name is None:
        for name, summary in _entries(options.kind):
            print(f"  {name:<24} {summary}".rstrip())
    elif options.kind == "configs":
        print(_find_config(options.name).read_text(encoding="utf-8"), end="")
    else:
        _show(options.kind, options.name)


def _show(kind: str, name: str) -> None:
    """Prints what a part is, and its arguments with their types and defaults."""
    registry = _KINDS[kind]
    part = registry[name]
    print(f"{inspect.getdoc(part.func if isinstance(part, functools.partial) else part)}\n\narguments:")
    for name, argument in arguments_of(part, GIVEN.get(registry, ())).items():
        value = "" if argument.default is REQUIRED else f" = {argument.default!r}"
        print(f"  {name}: {inspect.formatannotation(argument.annotation)}{value}")
    if registry is PRESETS:
        print(f"  and in all of its views: {', '.join(field.name for field in dataclasses.fields(ViewConfig))}")


def _collapsed(entries: list[tuple[str, str]], kind: str) -> list[tuple[str, str]]:
    """One entry for many names that share a summary, such as torchvision's networks."""
    counts = collections.Counter(summary for _, summary in entries)
    first = {summary: name for name, summary in reversed(entries) if counts[summary] > 10}
    return [
        (f"{name}, ...", f"{summary} {counts[summary]} names: ssl-lib list {kind}")
        if summary in first
        else (name, summary)
        for name, summary in entries
        if first.get(summary, name) == name
    ]


def _entries(kind: str) -> list[tuple[str, str]]:
    if kind == "configs":
        folder = _config_folder()
        paths = sorted(folder.rglob("*.yaml"))
        return [(path.relative_to(folder).with_suffix("").as_posix(), _first_comment(path)) for path in paths]
    registry = _KINDS[kind]
    return [(name, (inspect.getdoc(registry[name]) or "").partition("\n")[0]) for name in registry]


def _first_comment(path: Path) -> str:
    line = path.read_text(encoding="utf-8").partition("\n")[0]
    return line.lstrip("# ") if line.startswith("#") else ""


def _describe(experiment: Experiment) -> None:
    config, loader = experiment.config, experiment.loader
    precision = experiment.trainer.precision
    millions = sum(parameter.numel() for parameter in experiment.method.backbone.parameters()) / 1e6
    print(
        f"{config.method.name} on {config.data.name} ({_counted(len(loader.data), 'image')}), "
        f"{config.backbone.name} ({millions:.2f} M parameters), {_counted(config.schedule.epochs, 'epoch')} of "
        f"{_counted(loader.steps_per_epoch, 'step')}, {precision.name} on {precision.device}",
        file=sys.stderr,
        flush=True,
    )


def _counted(number: float, noun: str) -> str:
    text = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{text} {noun}{'' if number == 1 else 's'}"


def _find_config(name: str) -> Path:
    """The file itself, or that of a run's folder; or, for a bare name or one under `configs/`, a bundled config."""
    if Path(name).is_file():
        return Path(name)
    if (Path(name) / "config.yaml").is_file():
        return Path(name) / "config.yaml"
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


def _list_skipped(*parts: object) -> None:
    """Names the files that loaders and data sets left out, each once."""
    skipped = list(dict.fromkeys(path for part in parts for path in getattr(part, "skipped", ())))
    if skipped:
        print("\n  ".join([f"{_counted(len(skipped), 'unreadable image')} left out:", *skipped]), file=sys.stderr)


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
