"""From a config to objects: the only glue between the YAML and the parts."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.optim import Optimizer

import ssl_lib.backbones
import ssl_lib.losses
import ssl_lib.methods  # noqa: F401  (these imports fill the registries)
from ssl_lib.callbacks import Callback, Checkpoints, Evaluation, MetricsLog, ProgressBar
from ssl_lib.checkpoint import find_checkpoint, load_checkpoint
from ssl_lib.config import Component, RunConfig, TrainerConfig, parse_config, to_yaml
from ssl_lib.data import ImageData, Loader
from ssl_lib.errors import CheckpointError, ConfigError, SSLError
from ssl_lib.evaluation import Evaluator
from ssl_lib.methods import Method
from ssl_lib.optim import clip_grad_per_parameter
from ssl_lib.precision import resolve_device
from ssl_lib.registry import BACKBONES, DATASETS, METHODS, OPTIMIZERS, PRESETS, Registry
from ssl_lib.schema import Argument, arguments_of, check_arguments, convert
from ssl_lib.state import TrainState
from ssl_lib.trainer import Trainer
from ssl_lib.views import ViewConfig, ViewPipeline

__all__ = ["Experiment", "build", "load_run", "resolve"]

# What the library passes to each kind of part itself; the other arguments are the config's.
_GIVEN = {DATASETS: ("split",), BACKBONES: (), METHODS: ("backbone",), OPTIMIZERS: ("params",)}


@dataclass(frozen=True)
class Experiment:
    """The objects of a run, ready to train. `evaluator` is None where evaluation is off or has no labelled images."""

    config: RunConfig
    method: Method
    loader: Loader
    evaluator: Evaluator | None

    def fit(self, *, resume: bool = False) -> TrainState:
        """Trains as the config says, with progress bar, metrics, evaluation and checkpoints in its `run_dir`."""
        config = self.config
        trainer = _build_trainer(config.trainer, config.run_dir, self._callbacks())
        optimizer = _build_optimizer(config, self.method)
        return trainer.fit(self.method, self.loader, optimizer, config.schedule, resume=resume)

    def _callbacks(self) -> list[Callback]:
        config, run_dir = self.config, Path(self.config.run_dir)
        checkpoints = Checkpoints(
            run_dir / "checkpoints",
            save_every=config.trainer.save_every,
            keep_every=config.trainer.keep_every,
            config=to_yaml(config),
        )
        callbacks: list[Callback] = [ProgressBar(), MetricsLog(run_dir / "metrics.jsonl")]
        if self.evaluator is not None:
            every = config.evaluation.every_epochs
            callbacks.append(Evaluation(self.evaluator, every, run_dir / "evaluation.json"))
        return [*callbacks, checkpoints]


def resolve(config: RunConfig) -> RunConfig:
    """Imports the user's own parts, checks every part's arguments and writes their defaults out; builds nothing.

    Raises:
        ConfigError: A name, key or value is wrong; the message names it and the nearest allowed one.
    """
    _import_all(config.imports)
    return dataclasses.replace(
        config,
        data=_resolve(config.data, DATASETS, "data"),
        backbone=_resolve(config.backbone, BACKBONES, "backbone", derived=("in_channels", "image_size")),
        method=_resolve(config.method, METHODS, "method"),
        optimizer=_resolve(config.optimizer, OPTIMIZERS, "optimizer"),
        views=[dataclasses.asdict(view) for view in _resolve_views(config.views)],
    )


def build(config: RunConfig) -> Experiment:
    """Builds the objects of a run.

    The backbone's `in_channels` and `image_size`, where it has such arguments and the config does not set them, are
    those of the data and of the views.

    Raises:
        ConfigError: A name, key or value is wrong.
        DataError: Images are missing or too few.
    """
    config = resolve(config)
    train = _make(DATASETS, config.data, "data", split="train")
    configs = [convert(view, ViewConfig, f"views[{index}]") for index, view in enumerate(config.views)]
    views = _named("views", ViewPipeline, configs, train.mean, train.std)
    loader = Loader(train, views, config.trainer.batch_size, seed=config.seed, workers=config.trainer.workers)
    backbone = _derive(config.backbone, {"in_channels": train.channels, "image_size": views.size})
    config = dataclasses.replace(config, backbone=backbone)
    torch.manual_seed(config.seed)
    method = _make(METHODS, config.method, "method", backbone=_make(BACKBONES, backbone, "backbone"))
    return Experiment(config, method, loader, _build_evaluator(config, train, views.size))


def load_run(run: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Rebuilds a trained run with its weights.

    Args:
        run: A run's folder, for its last checkpoint, or one checkpoint file.
        overrides: `key.subkey=value` changes to its config, such as another `data.root`.

    Raises:
        CheckpointError: There is no checkpoint, it does not fit, or it was saved by a script without a config.
    """
    path = find_checkpoint(run)
    saved = load_checkpoint(path)
    if saved.get("config") is None:
        raise CheckpointError(
            f"{path} was saved by a script, without a config: build the method there and load "
            "load_checkpoint(path)['method'] into it"
        )
    experiment = build(parse_config(yaml.safe_load(saved["config"]), overrides))
    try:
        experiment.method.load_state_dict(saved["method"])
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the method of its config: {error}") from error
    return experiment


def _build_optimizer(config: RunConfig, method: Method) -> Optimizer:
    arguments = dict(config.optimizer.arguments)
    lr = config.schedule.peak_lr(arguments.pop("lr"), config.trainer.batch_size)
    groups = method.param_groups(arguments["weight_decay"])
    optimizer: Optimizer = _named("optimizer", OPTIMIZERS[config.optimizer.name], groups, lr=lr, **arguments)
    return optimizer


def _build_trainer(config: TrainerConfig, run_dir: str, callbacks: Sequence[Callback]) -> Trainer:
    clip: Callable[[Iterable[nn.Parameter]], object] | None = None
    if config.clip_norm is not None:
        function = clip_grad_per_parameter if config.clip_per_parameter else nn.utils.clip_grad_norm_
        clip = functools.partial(function, max_norm=config.clip_norm)
    return Trainer(
        run_dir,
        device=config.device,
        precision=config.precision,
        compile=config.compile,
        accumulate=config.accumulate,
        clip=clip,
        log_every=config.log_every,
        callbacks=callbacks,
    )


def _build_evaluator(config: RunConfig, train: ImageData, size: int) -> Evaluator | None:
    settings = config.evaluation
    protocols = [protocol for protocol in (settings.knn, settings.linear) if protocol is not None]
    if settings.every_epochs == 0 or not protocols:
        return None
    queries = _make(DATASETS, config.data, "data", split="test")
    bank = train if train.labels is not None else _make(DATASETS, config.data, "data", split="bank")
    if queries is None or bank is None:
        missing = "test" if queries is None else "training"
        print(f"note: the data have no labelled {missing} images, so that evaluation is off", file=sys.stderr)
        return None
    fresh = {name: value for name, value in (("weights", None), ("pretrained", False))}
    arguments = {name: fresh.get(name, value) for name, value in config.backbone.arguments.items()}
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        random_encoder = _make(BACKBONES, Component(name=config.backbone.name, arguments=arguments), "backbone")
    return Evaluator(
        bank,
        queries,
        protocols,
        random_encoder=random_encoder,
        device=resolve_device(config.trainer.device),
        size=settings.image_size or size,
        workers=config.trainer.workers,
    )


def _resolve(component: Component, registry: Registry, key: str, derived: Sequence[str] = ()) -> Component:
    """Checks a component's arguments; those derived from other parts keep no default."""
    allowed = arguments_of(registry[component.name], _GIVEN[registry])
    absent = {name for name in derived if name in allowed and name not in component.arguments}
    checked = check_arguments(component.arguments, allowed, key)
    return Component(name=component.name, arguments={k: v for k, v in checked.items() if k not in absent})


def _derive(component: Component, derived: Mapping[str, Any]) -> Component:
    allowed = arguments_of(BACKBONES[component.name])
    known = {name: value for name, value in derived.items() if name in allowed}
    return Component(name=component.name, arguments={**known, **component.arguments})


def _resolve_views(views: Mapping[str, Any] | list[Any]) -> list[ViewConfig]:
    """A list of view configs, or a preset with its arguments and with fields to replace in every view."""
    if isinstance(views, list):
        return [convert(view, ViewConfig, f"views[{index}]") for index, view in enumerate(views)]
    values = dict(views)
    if "preset" not in values:
        raise ConfigError(f"missing key 'views.preset': name a preset, or give a list of views.{_known(PRESETS)}")
    preset = PRESETS[convert(values.pop("preset"), str, "views.preset")]
    own = arguments_of(preset)
    fields = {
        field.name: Argument(ViewConfig.__annotations__[field.name], None)
        for field in dataclasses.fields(ViewConfig)
        if field.name not in own
    }
    unknown = {name: value for name, value in values.items() if name not in own and name not in fields}
    check_arguments(unknown, {**own, **fields}, "views")
    base = _named("views", preset, **check_arguments({k: v for k, v in values.items() if k in own}, own, "views"))
    changes = {name: value for name, value in values.items() if name in fields}
    return [convert({**dataclasses.asdict(view), **changes}, ViewConfig, "views") for view in base]


def _known(registry: Registry) -> str:
    return f" Known: {', '.join(registry)}."


def _make(registry: Registry, component: Component, key: str, **given: Any) -> Any:
    part = registry[component.name]
    accepted = arguments_of(part)
    given = {name: value for name, value in given.items() if name in accepted}
    return _named(f"{key} {component.name}", part, **given, **component.arguments)


def _named(key: str, part: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a constructor; a ValueError of its own becomes a ConfigError that names the config's key."""
    try:
        return part(*args, **kwargs)
    except SSLError:
        raise
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error


def _import_all(names: Sequence[str]) -> None:
    """Imports modules by name, and files by path, so that they register their parts."""
    for name in names:
        try:
            if name.endswith(".py"):
                _import_file(Path(name))
            else:
                importlib.import_module(name)
        except (ImportError, OSError, SyntaxError) as error:
            raise ConfigError(f"imports: cannot import {name!r}: {error}") from error


def _import_file(path: Path) -> None:
    name = f"ssl_lib_imports.{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path):
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
