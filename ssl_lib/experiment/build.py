"""Builds an experiment from a config: the dataset, method, optimizer, trainer and evaluator."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from ssl_lib.config.convert import arguments_of
from ssl_lib.config.load import to_yaml
from ssl_lib.config.resolve import call, check_derived, derive, resolve
from ssl_lib.config.run_config import RunConfig
from ssl_lib.data import ImageData, Loader
from ssl_lib.data.loader import check_divisible
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.distributed import is_distributed, rank, world_size
from ssl_lib.errors import ConfigError
from ssl_lib.evaluation import Evaluator
from ssl_lib.experiment.build_method import build_method, note_random_networks
from ssl_lib.experiment.components import make, make_data
from ssl_lib.experiment.dry_run import dry_run
from ssl_lib.experiment.evaluator import build_evaluator
from ssl_lib.experiment.resume import resumed_config
from ssl_lib.memory import check_memories
from ssl_lib.methods import Method
from ssl_lib.methods.base import backbones
from ssl_lib.registry import LOGGERS, METHODS, OPTIMIZERS
from ssl_lib.runs.files import CHECKPOINTS, CONFIG_FILE, ENVIRONMENT_FILE, EVALUATION_FILE
from ssl_lib.training.callbacks import Callback, Checkpoints, ConfigFile, EnvironmentFile, Evaluation, default_callbacks
from ssl_lib.training.checkpoint_folder import Checkpoint, open_checkpoint
from ssl_lib.training.checks import check_batches, check_images, check_labels
from ssl_lib.training.gradcache import check_separable
from ssl_lib.training.state import TrainState
from ssl_lib.training.trainer import Trainer
from ssl_lib.utils.seeding import seed_everything
from ssl_lib.views import ViewPipeline

__all__ = ["Experiment", "build", "build_method", "build_resolved", "build_views", "check_trainer"]


@dataclass(frozen=True)
class Experiment:
    """The objects of a run, ready to train. `evaluator` is None if the data have no labeled images."""

    config: RunConfig
    method: Method
    loader: Loader
    optimizer: Optimizer
    trainer: Trainer
    evaluator: Evaluator | None

    def fit(self, *, resume: bool | str | Path | Checkpoint = False) -> TrainState:
        """Trains the method and writes the config, metrics, evaluation and checkpoints to `config.run_dir`.

        Args:
            resume: True resumes from the newest intact checkpoint in `run_dir`, a path from that file. Settings that
                do not affect the training may differ from the checkpoint's; the differences are printed. More epochs
                make a finished run longer (see `Schedule.resumed`).

        Raises:
            CheckpointError: There is no checkpoint to resume from, or its config differs; `run_dir` already holds a run
                and `resume` is False; or another process is training in `run_dir`.
            ConfigError: `run_dir` is not writable.
        """
        config = self.config
        if resume:
            resume = open_checkpoint(config.run_dir if resume is True else resume)
            config = resumed_config(config, resume)
            for callback in self.trainer.callbacks:
                if isinstance(callback, ConfigFile | Checkpoints):
                    callback.config = to_yaml(config)  # with the restart of a run that is made longer
        seed_everything(config.seed, *([rank()] if is_distributed() else []))
        return self.trainer.fit(self.method, self.loader, self.optimizer, config.schedule, resume=resume)


def build(config: RunConfig) -> Experiment:
    """Builds all objects of a run, and dry-runs one step on a few black images so that misconfigurations fail early.

    If the config does not set the backbone's `in_channels` and `image_size`, they are derived from the data and the
    views. The global random state is preserved.

    Raises:
        ConfigError: A name, key or value is wrong.
        DataError: Images are missing or too few.
    """
    return build_resolved(resolve(config))


def build_resolved(config: RunConfig) -> Experiment:
    """Builds all objects of a run whose config is resolved; see `build`."""
    check_trainer(config)
    train, views = build_views(config)
    loader = call("trainer", Loader, train, views, seed=config.seed, **_settings(config, Loader))
    accumulate = config.trainer["accumulate"]
    call("trainer", check_batches, loader, accumulate)
    call(f"method {config.method.name}", check_labels, METHODS[config.method.name], train)
    check_derived(config, train, views)
    config = derive(config, train, views)
    method = build_method(config)
    note_random_networks(config.method)
    call(f"method {config.method.name}", check_images, method, train)
    call(f"method {config.method.name}", check_memories, method, len(train))
    dry_run(method, views, train, loader.batch_size // (accumulate * world_size()))
    if config.trainer["exact"]:
        call("trainer.exact", check_separable, backbones(method))
    optimizer = _build_optimizer(config, method)
    schedule = call("lr_scaling of the method or optimizer", config.schedule.scaled_for, method, optimizer)
    config = dataclasses.replace(config, schedule=schedule)
    preprocessing = Preprocessing.of(train, config.evaluation.image_size or views.size)
    evaluator = build_evaluator(config, train, views, preprocessing)
    callbacks = _build_callbacks(config, evaluator, preprocessing)
    trainer = call("trainer", Trainer, config.run_dir, callbacks=callbacks, **_settings(config, Trainer))
    return Experiment(config, method, loader, optimizer, trainer, evaluator)


def check_trainer(config: RunConfig) -> None:
    """Checks the values of `trainer` without the data.

    Raises:
        ConfigError: A value is out of range, or not available here.
    """
    call("trainer", Trainer, callbacks=(), **_settings(config, Trainer))
    call("trainer", Checkpoints, "", **_settings(config, Checkpoints))
    batch_size = config.trainer["batch_size"]
    if batch_size < 1:
        raise ConfigError(f"trainer: batch_size must be at least 1, got {batch_size}")
    call("trainer", check_divisible, batch_size, config.trainer["accumulate"], processes=1)


def build_views(config: RunConfig) -> tuple[ImageData, ViewPipeline]:
    """Builds the training images and the view pipeline of a resolved config."""
    train = make_data(config, "train")
    assert train is not None
    return train, call("views", ViewPipeline, config.views, train.mean, train.std)


def _build_optimizer(config: RunConfig, method: Method) -> Optimizer:
    arguments = config.optimizer.arguments
    groups = call("optimizer", method.param_groups, arguments.get("weight_decay", 0.0))
    call("optimizer", config.schedule.peak_lr, arguments.get("lr", 0.0), config.trainer["batch_size"])
    optimizer: Optimizer = call("optimizer", OPTIMIZERS[config.optimizer.name], groups, **arguments)
    return optimizer


def _settings(config: RunConfig, part: type[Loader] | type[Trainer] | type[Checkpoints]) -> dict[str, Any]:
    """Returns the settings in `trainer` that are arguments of a class."""
    return {name: value for name, value in config.trainer.items() if name in arguments_of(part)}


def _build_callbacks(config: RunConfig, evaluator: Evaluator | None, preprocessing: Preprocessing) -> list[Callback]:
    run_dir, every = Path(config.run_dir), config.evaluation.every_epochs
    text = to_yaml(config)
    asked = any(arguments is not None for arguments in config.evaluation.protocols.values())
    evaluable = evaluator is not None if asked else None  # without protocols, the labels are not looked for
    stored = {"config": text, "preprocessing": preprocessing.plain()}
    saved = call("trainer", Checkpoints, run_dir / CHECKPOINTS, **stored, **_settings(config, Checkpoints))
    callbacks: list[Callback] = [
        ConfigFile(run_dir / CONFIG_FILE, text),
        EnvironmentFile(run_dir / ENVIRONMENT_FILE, evaluable),
        *default_callbacks(run_dir, saved),
        *(make(LOGGERS, logger, "loggers", run_dir=run_dir) for logger in config.loggers),
    ]
    if evaluator is not None and every:  # last, so that the epoch is saved even if the evaluation fails
        online = call("evaluation.online_images", evaluator.limited, config.evaluation.online_images)
        callbacks.append(Evaluation(evaluator, every, run_dir / EVALUATION_FILE, online))
    return callbacks
