"""From a config to objects: the only glue between the YAML and the parts."""

from __future__ import annotations

import copy
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.optim import Optimizer

from ssl_lib.callbacks import Callback, Checkpoints, Evaluation, MetricsLog, ProgressBar
from ssl_lib.checkpoint import find_checkpoint, load_checkpoint
from ssl_lib.config import Component, RunConfig, parse_config, refuse_changes, to_yaml
from ssl_lib.data import ImageData, Loader
from ssl_lib.errors import CheckpointError, ConfigError
from ssl_lib.evaluation import Evaluator
from ssl_lib.methods import Method
from ssl_lib.methods.base import checked_output
from ssl_lib.optim import clip_grad_per_parameter
from ssl_lib.registry import BACKBONES, DATASETS, METHODS, OPTIMIZERS, Registry
from ssl_lib.resolve import DERIVED, call, resolve
from ssl_lib.schema import arguments_of, convert
from ssl_lib.state import TrainState
from ssl_lib.trainer import Trainer
from ssl_lib.types import Progress
from ssl_lib.views import ViewConfig, ViewPipeline

__all__ = ["Experiment", "build", "load_method", "load_run"]

NO_WEIGHTS = {"weights": None, "pretrained": False}
"""What makes a backbone start from random weights."""

_CHANGEABLE = ("data", "evaluation", "trainer", "imports", "run_dir")


@dataclass(frozen=True)
class Experiment:
    """The objects of a run, ready to train. `evaluator` is None where the data have no labelled images."""

    config: RunConfig
    method: Method
    loader: Loader
    optimizer: Optimizer
    trainer: Trainer
    evaluator: Evaluator | None

    def fit(self, *, resume: bool = False) -> TrainState:
        """Trains as the config says, with config, metrics, evaluation and checkpoints in its `run_dir`.

        Raises:
            CheckpointError: There is nothing to resume, or it was trained by another config; or there is a run in the
                folder already, and `resume` is False.
            ConfigError: The folder cannot be written to.
        """
        self.trainer.check_run_dir(resume)
        if resume:
            refuse_changes(_saved_config(load_checkpoint(find_checkpoint(self.config.run_dir))), self.config)
        run_dir = Path(self.config.run_dir)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            (run_dir / "config.yaml").write_text(to_yaml(self.config), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"run_dir: cannot write to {run_dir.absolute()}: {error.strerror}") from error
        torch.manual_seed(self.config.seed)
        return self.trainer.fit(self.method, self.loader, self.optimizer, self.config.schedule, resume=resume)


def build(config: RunConfig) -> Experiment:
    """Builds all objects of a run and trains a copy on two black images, so that what cannot work fails here.

    The backbone's `in_channels` and `image_size`, where it has such arguments and the config does not set them, are
    those of the data and of the views. The global random generator is left as it was.

    Raises:
        ConfigError: A name, key or value is wrong.
        DataError: Images are missing or too few.
    """
    config = resolve(config)
    train = _make(DATASETS, config.data, "data", split="train")
    configs = [convert(view, ViewConfig, f"views[{index}]") for index, view in enumerate(config.views)]
    views = call("views", ViewPipeline, configs, train.mean, train.std)
    workers = config.trainer.workers
    loader = call("trainer", Loader, train, views, config.trainer.batch_size, seed=config.seed, workers=workers)
    derived = dict(zip(DERIVED, (train.channels, views.size), strict=True))
    config = dataclasses.replace(config, backbone=_derive(config.backbone, derived))
    method = _build_method(config)
    _rehearse(method, views, train.channels, config.trainer.batch_size // config.trainer.accumulate)
    optimizer = _build_optimizer(config, method)
    evaluator = _build_evaluator(config, train, views.size)
    return Experiment(config, method, loader, optimizer, _build_trainer(config, evaluator), evaluator)


def load_run(run: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Rebuilds a trained run, its data included, with the method's weights and in eval mode.

    Args:
        run: A run's folder, for its last checkpoint, or one checkpoint file.
        overrides: `key.subkey=value` changes to its `data`, `evaluation`, `trainer` or `imports`, such as another
            `data.root`; the rest made the weights what they are.

    Raises:
        ConfigError: An override is of another key, or wrong.
        CheckpointError: There is no checkpoint, it does not fit, was saved by a script without a config, or names
            modules to import that the run's folder does not.
    """
    path = find_checkpoint(run)
    for key in (text.partition("=")[0] for text in overrides):
        if key.partition(".")[0] not in _CHANGEABLE:
            hint = "; for other image sizes, set evaluation.image_size" if key.startswith("views") else ""
            raise ConfigError(f"{key} cannot change any more: the run was trained with it{hint}")
    saved = load_checkpoint(path)
    config = _saved_config(saved, overrides, path)
    config = dataclasses.replace(config, backbone=_random(config.backbone))
    experiment = build(config)
    _load_weights(experiment.method, saved, path)
    return experiment


def load_method(run: str | Path) -> Method:
    """Rebuilds a trained method alone, in eval mode: `load_method(run).encoder` is its backbone. Needs no data.

    Raises:
        CheckpointError: As `load_run`.
    """
    path = find_checkpoint(run)
    saved = load_checkpoint(path)
    config = resolve(_saved_config(saved, (), path))
    config = dataclasses.replace(config, backbone=_random(config.backbone))
    method = _build_method(config)
    _load_weights(method, saved, path)
    return method


def _saved_config(saved: Mapping[str, Any], overrides: Sequence[str] = (), path: Path | None = None) -> RunConfig:
    """The config inside a checkpoint.

    Raises:
        CheckpointError: There is none, or it would import code that no config beside the checkpoint names.
    """
    if saved.get("config") is None:
        raise CheckpointError(
            "the checkpoint was saved by a script, without a config: build the method there and load "
            "load_checkpoint(path)['method'] into it"
        )
    config = parse_config(yaml.safe_load(saved["config"]), overrides)
    if path is not None and config.imports and not any(text.startswith("imports=") for text in overrides):
        beside = path.parent.parent / "config.yaml"
        known = yaml.safe_load(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
        if known.get("imports") != list(config.imports):
            raise CheckpointError(
                f"{path} names code to import, {list(config.imports)}: if you trust it, say so with "
                f"imports={list(config.imports)}"
            )
    return config


def _load_weights(method: Method, saved: Mapping[str, Any], path: Path) -> None:
    try:
        method.load_state_dict(saved["method"])
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the method of its config: {error}") from error
    method.eval()


def _build_method(config: RunConfig) -> Method:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        method: Method = _make(METHODS, config.method, "method", backbone=_make(BACKBONES, config.backbone, "backbone"))
    return method


def _build_optimizer(config: RunConfig, method: Method) -> Optimizer:
    arguments = config.optimizer.arguments
    groups = call("optimizer", method.param_groups, arguments.get("weight_decay", 0.0))
    call("optimizer", config.schedule.peak_lr, arguments.get("lr", 0.0), config.trainer.batch_size)
    optimizer: Optimizer = call("optimizer", OPTIMIZERS[config.optimizer.name], groups, **arguments)
    return optimizer


def _build_trainer(config: RunConfig, evaluator: Evaluator | None) -> Trainer:
    settings = config.trainer
    clip: Callable[[Iterable[nn.Parameter]], object] | None = None
    if settings.clip_norm is not None:
        function = clip_grad_per_parameter if settings.clip_per_parameter else nn.utils.clip_grad_norm_
        clip = functools.partial(function, max_norm=settings.clip_norm)
    return Trainer(
        config.run_dir,
        device=settings.device,
        precision=settings.precision,
        compile=settings.compile,
        accumulate=settings.accumulate,
        clip=clip,
        log_every=settings.log_every,
        callbacks=_build_callbacks(config, evaluator),
    )


def _build_callbacks(config: RunConfig, evaluator: Evaluator | None) -> list[Callback]:
    run_dir, every = Path(config.run_dir), config.evaluation.every_epochs
    callbacks: list[Callback] = [ProgressBar(), MetricsLog(run_dir / "metrics.jsonl")]
    if evaluator is not None and every:
        callbacks.append(Evaluation(evaluator, every, run_dir / "evaluation.json"))
    settings = config.trainer
    saved = Checkpoints(
        run_dir / "checkpoints",
        save_every=settings.save_every,
        keep_every=settings.keep_every,
        config=to_yaml(config),
    )
    return [*callbacks, saved]


def _build_evaluator(config: RunConfig, train: ImageData, size: int) -> Evaluator | None:
    settings = config.evaluation
    protocols = [protocol for protocol in (settings.knn, settings.linear) if protocol is not None]
    queries = _make(DATASETS, config.data, "data", split="test")
    bank = train if train.labels is not None else _make(DATASETS, config.data, "data", split="bank")
    if queries is None or bank is None or not protocols:
        if settings.every_epochs and protocols:
            missing = "test" if queries is None else "training"
            print(
                f"note: the data have no labelled {missing} images, so there is no evaluation; to name some, see "
                f"`ssl-lib list data {config.data.name}`; to do without, set evaluation.every_epochs=0",
                file=sys.stderr,
            )
        return None
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        random_encoder = _make(BACKBONES, _random(config.backbone), "backbone")
    return call(  # type: ignore[no-any-return]
        "evaluation",
        Evaluator,
        bank,
        queries,
        protocols,
        random_encoder=random_encoder,
        size=settings.image_size or size,
        workers=config.trainer.workers,
    )


def _rehearse(method: Method, views: ViewPipeline, channels: int, micro_batch: int) -> None:
    """Trains a copy of the method on two black images (one, in batches of one); what fails is a ConfigError."""
    count = min(2, micro_batch)
    images = tuple(torch.zeros(count, channels, view.size, view.size, dtype=torch.uint8) for view in views.views)
    progress = Progress(step=0, total_steps=1, steps_per_epoch=1)
    with torch.random.fork_rng():
        try:
            actor = copy.deepcopy(method).train()
            checked_output(actor(views(images, torch.Generator().manual_seed(0)), progress), actor).loss.backward()
            for teacher, parts in actor.ema_pairs():
                teacher.check(parts, actor.ema_momentum(progress))
        except (ValueError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
            raise ConfigError(f"method, backbone and views do not fit each other: {error}") from error


def _derive(component: Component, derived: Mapping[str, Any]) -> Component:
    allowed = arguments_of(BACKBONES[component.name])
    known = {name: value for name, value in derived.items() if name in allowed}
    return Component(name=component.name, arguments={**known, **component.arguments})


def _random(component: Component) -> Component:
    """The backbone without pretrained weights."""
    arguments = {name: NO_WEIGHTS.get(name, value) for name, value in component.arguments.items()}
    return Component(name=component.name, arguments=arguments)


def _make(registry: Registry, component: Component, key: str, **given: Any) -> Any:
    """Builds a part from its arguments and those of `given` that it takes."""
    part = registry[component.name]
    accepted = arguments_of(part)
    given = {name: value for name, value in given.items() if name in accepted}
    return call(f"{key} {component.name}", part, **given, **component.arguments)
