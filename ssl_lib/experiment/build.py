"""From a config to objects: the only glue between the YAML and the parts."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ssl_lib.config.convert import arguments_of, convert
from ssl_lib.config.load import refuse_changes, saved_config, to_yaml
from ssl_lib.config.resolve import call, derive_backbone, resolve, without_weights
from ssl_lib.config.run_config import Component, RunConfig
from ssl_lib.data import ImageData, Loader, Split, as_image_data
from ssl_lib.data.loader import check_divisible
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.distributed import is_distributed, rank, world_size
from ssl_lib.errors import DataError
from ssl_lib.evaluation import Evaluator
from ssl_lib.experiment.dry_run import rehearse
from ssl_lib.methods import Method
from ssl_lib.methods.base import backbones
from ssl_lib.optim import clip_grad_per_parameter
from ssl_lib.registry import BACKBONES, DATASETS, LOGGERS, METHODS, OPTIMIZERS, PROTOCOLS, Registry
from ssl_lib.runs.files import CHECKPOINTS, CONFIG_FILE, ENVIRONMENT_FILE, EVALUATION_FILE
from ssl_lib.training.callbacks import Callback, Checkpoints, ConfigFile, EnvironmentFile, Evaluation, default_callbacks
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.checkpoint_folder import find_checkpoint
from ssl_lib.training.gradcache import check_separable
from ssl_lib.training.state import TrainState
from ssl_lib.training.trainer import Trainer
from ssl_lib.utils.seeding import seed_everything
from ssl_lib.views import ViewConfig, ViewPipeline

__all__ = [
    "Experiment",
    "build",
    "build_evaluator",
    "build_method",
    "build_views",
    "derive_backbone",
    "saved_config",
    "without_weights",
]


@dataclass(frozen=True)
class Experiment:
    """The objects of a run, ready to train. `evaluator` is None where the data have no labeled images."""

    config: RunConfig
    method: Method
    loader: Loader
    optimizer: Optimizer
    trainer: Trainer
    evaluator: Evaluator | None

    def fit(self, *, resume: bool | str | Path = False) -> TrainState:
        """Trains as the config says, with config, metrics, evaluation and checkpoints in its `run_dir`.

        Args:
            resume: Go on from the newest whole checkpoint in `run_dir`, or from the file given. Settings that do not
                touch the training may have changed: they are printed.

        Raises:
            CheckpointError: There is nothing to resume, or it was trained by another config; there is a run in the
                folder already, and `resume` is False; or another process is training into it.
            ConfigError: The folder cannot be written to.
        """
        self.trainer.check_run_dir(bool(resume))
        if resume:
            resume = find_checkpoint(self.config.run_dir if resume is True else resume)
            changes = refuse_changes(saved_config(load_checkpoint(resume)), self.config)
            if changes and rank() == 0:
                print(f"note: going on with other settings: {'; '.join(changes)}", file=sys.stderr)
        seed_everything(self.config.seed, *([rank()] if is_distributed() else []))
        return self.trainer.fit(self.method, self.loader, self.optimizer, self.config.schedule, resume=resume)


def build(config: RunConfig) -> Experiment:
    """Builds all objects of a run and trains a copy on a few black images, so that what cannot work fails here.

    The backbone's `in_channels` and `image_size`, where it has such arguments and the config does not set them, are
    those of the data and of the views. The global random generator is left as it was.

    Raises:
        ConfigError: A name, key or value is wrong.
        DataError: Images are missing or too few.
    """
    config = resolve(config)
    train, views = build_views(config)
    settings = config.trainer
    options = {"seed": config.seed, "workers": settings.workers, "drop_last": settings.drop_last}
    call("trainer", check_divisible, settings.batch_size, settings.accumulate)
    loader = call("trainer", Loader, train, views, settings.batch_size, **options)
    config = derive_backbone(config, train, views)
    method = build_method(config)
    rehearse(method, views, train, settings.batch_size // (settings.accumulate * world_size()))
    if settings.exact:
        call("trainer.exact", check_separable, backbones(method))
    optimizer = _build_optimizer(config, method)
    preprocessing = Preprocessing.of(train, config.evaluation.image_size or views.size)
    evaluator = build_evaluator(config, train, views, preprocessing)
    trainer = _build_trainer(config, evaluator, preprocessing)
    return Experiment(config, method, loader, optimizer, trainer, evaluator)


def build_views(config: RunConfig) -> tuple[ImageData, ViewPipeline]:
    """The training images of a resolved config, and its views."""
    train = _make_data(config, "train")
    assert train is not None
    configs = [convert(view, ViewConfig, f"views[{index}]") for index, view in enumerate(config.views)]
    return train, call("views", ViewPipeline, configs, train.mean, train.std)


def build_method(config: RunConfig) -> Method:
    """The method of a resolved config, its weights drawn by the config's seed; the global generators are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        method: Method = _make(METHODS, config.method, "method", backbone=_make(BACKBONES, config.backbone, "backbone"))
    return method


def _build_optimizer(config: RunConfig, method: Method) -> Optimizer:
    arguments = config.optimizer.arguments
    groups = call("optimizer", method.param_groups, arguments.get("weight_decay", 0.0))
    call("optimizer", config.schedule.peak_lr, arguments.get("lr", 0.0), config.trainer.batch_size)
    optimizer: Optimizer = call("optimizer", OPTIMIZERS[config.optimizer.name], groups, **arguments)
    return optimizer


def _build_trainer(config: RunConfig, evaluator: Evaluator | None, preprocessing: Preprocessing) -> Trainer:
    settings = config.trainer
    clip: Callable[[Iterable[nn.Parameter]], object] | None = None
    if settings.clip_norm is not None:
        function = clip_grad_per_parameter if settings.clip_per_parameter else nn.utils.clip_grad_norm_
        clip = functools.partial(function, max_norm=settings.clip_norm)
    return Trainer(
        config.run_dir,
        device=settings.device,
        precision=settings.precision,
        strategy=settings.strategy,
        compile=settings.compile,
        accumulate=settings.accumulate,
        exact=settings.exact,
        clip=clip,
        log_every=settings.log_every,
        skip_nonfinite=settings.skip_nonfinite,
        callbacks=_build_callbacks(config, evaluator, preprocessing),
    )


def _build_callbacks(config: RunConfig, evaluator: Evaluator | None, preprocessing: Preprocessing) -> list[Callback]:
    run_dir, every = Path(config.run_dir), config.evaluation.every_epochs
    settings, text = config.trainer, to_yaml(config)
    saved = Checkpoints(
        run_dir / CHECKPOINTS,
        save_every=settings.save_every,
        save_minutes=settings.save_minutes,
        keep=settings.keep,
        keep_every=settings.keep_every,
        keep_best=settings.keep_best,
        config=text,
        preprocessing=dataclasses.asdict(preprocessing),
    )
    callbacks: list[Callback] = [
        *(ConfigFile(run_dir / CONFIG_FILE, text), EnvironmentFile(run_dir / ENVIRONMENT_FILE)),
        *default_callbacks(run_dir, saved),
        *(_make(LOGGERS, logger, "loggers", run_dir=run_dir) for logger in config.loggers),
    ]
    if evaluator is not None and every:  # last: should it fail, the epoch is saved
        online = call("evaluation.online_images", evaluator.limited, config.evaluation.online_images)
        callbacks.append(Evaluation(evaluator, every, run_dir / EVALUATION_FILE, online))
    return callbacks


def build_evaluator(
    config: RunConfig, train: ImageData, views: ViewPipeline, preprocessing: Preprocessing
) -> Evaluator | None:
    """The evaluation of a resolved config, or None where the data have no labels for it.

    Args:
        config: With the backbone's channels and size.
        train: The training images, which serve as bank if they have labels.
        views: Those of the training.
        preprocessing: Its size and resize are those of the images shown.

    Raises:
        ConfigError: The settings do not suit the images.
        DataError: Images are missing.
    """
    settings = config.evaluation
    chosen = {name: arguments for name, arguments in settings.protocols.items() if arguments is not None}
    protocols = [call(f"evaluation.{name}", PROTOCOLS[name], **arguments) for name, arguments in chosen.items()]
    if not protocols:
        return None
    queries = _make_data(config, "test")
    bank = train if train.labels is not None else _make_data(config, "bank")
    if queries is None or bank is None:
        if settings.every_epochs and rank() == 0:
            missing = "test" if queries is None else "training"
            print(
                f"note: the data have no labeled {missing} images, so there is no evaluation; to name some, see "
                f"`ssl-lib list data {config.data.name}`; to do without, set evaluation.every_epochs=0",
                file=sys.stderr,
            )
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        random_encoder = _make(BACKBONES, without_weights(config).backbone, "backbone")
    return call(
        "evaluation",
        Evaluator,
        bank,
        queries,
        protocols,
        random_encoder=random_encoder,
        size=preprocessing.size,
        resize=preprocessing.resize,
        workers=config.trainer.workers,
        views=views,
    )


def _make_data(config: RunConfig, split: Split) -> ImageData | None:
    try:
        data = _make(DATASETS, config.data, "data", split=split)
        return None if data is None else call("data", as_image_data, data)
    except DataError as error:
        raise DataError(f"data: {error}") from error


def _make(registry: Registry, component: Component, key: str, **given: Any) -> Any:
    """Builds a part from its arguments and those of `given` that it takes."""
    part = registry[component.name]
    accepted = arguments_of(part)
    given = {name: value for name, value in given.items() if name in accepted}
    return call(f"{key} {component.name}", part, **given, **component.arguments)
