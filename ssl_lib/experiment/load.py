"""Loads trained runs: the config, method, evaluator and preprocessing from a run folder or checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_lib.config.load import saved_config
from ssl_lib.config.networks import change_networks
from ssl_lib.config.resolve import BAD_ARGUMENTS, call, derive, resolve, without_weights
from ssl_lib.config.run_config import RunConfig
from ssl_lib.data import FolderData, ImageData
from ssl_lib.data.base import warn
from ssl_lib.data.fingerprint import fingerprint
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.distributed import rank
from ssl_lib.errors import CheckpointError, ConfigError, did_you_mean
from ssl_lib.evaluation import Evaluator
from ssl_lib.experiment.build import build_method, build_views
from ssl_lib.experiment.evaluator import build_evaluator
from ssl_lib.methods import Method
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.files import run_folder
from ssl_lib.runs.folder import RunFolder
from ssl_lib.training.checkpoint_folder import Checkpoint, open_checkpoint
from ssl_lib.views import ViewPipeline

__all__ = [
    "TrainedRun",
    "load_method",
    "load_run",
    "load_saved",
    "saved_preprocessing",
    "trained_method",
    "trained_preprocessing",
]

_CHANGEABLE = ("data", "evaluation", "trainer", "imports")


@dataclass(frozen=True)
class TrainedRun:
    """A trained run.

    Attributes:
        config: The training config with the changes.
        method: The method with the trained weights, in eval mode on the CPU; `method.encoder` is its backbone.
        evaluator: The evaluator; None if the data have no labeled images or no evaluator was requested.
        steps: Number of optimizer updates.
        train: The training images.
        view_size: Side of the large training views in pixels.
        preprocessing: Preprocessing of the images the encoder is fed, including the evaluator's.
    """

    config: RunConfig
    method: Method
    evaluator: Evaluator | None
    steps: int
    train: ImageData
    view_size: int
    preprocessing: Preprocessing


def load_run(
    run: str | Path | Checkpoint, changes: Mapping[str, Any] | None = None, protocols: Sequence[str] | None = ()
) -> TrainedRun:
    """Loads a trained run with its data and evaluator.

    Args:
        run: A run folder, whose last checkpoint is loaded, or a checkpoint file.
        changes: Values by full key in `data`, `evaluation`, `trainer` or `imports`, such as `{"data.root": "photos"}`.
            The other sections determined the weights and cannot change.
        protocols: Names of the evaluator's protocols, with the config's settings if it has any. Empty uses the
            protocols in the config. None builds no evaluator and loads no test images.

    Raises:
        ConfigError: A change is wrong or not allowed.
        CheckpointError: There is no checkpoint; it does not match its config; a script saved it without a config; or
            it imports modules that config.yaml in the run folder does not list.
    """
    checkpoint, config = load_saved(run, changes)
    if protocols:
        config = resolve(_with_protocols(config, protocols))
    train, views = build_views(config)
    config = derive(config, train, views)
    method = trained_method(config, checkpoint)
    preprocessing = trained_preprocessing(checkpoint, config, changes)
    evaluator = None if protocols is None else build_evaluator(config, train, views, preprocessing)
    if evaluator is not None and not any(key.partition(".")[0] == "data" for key in changes or ()):
        _warn_of_other_images(train, evaluator.queries, checkpoint)
    return TrainedRun(config, method, evaluator, checkpoint.step, train, views.size, preprocessing)


def _warn_of_other_images(train: ImageData, test: ImageData | None, checkpoint: Checkpoint) -> None:
    """Warns if test images are held out of training images that have changed: some may have been trained on."""
    saved = checkpoint.state.get("data", {}).get("fingerprint")
    held_out = isinstance(train, FolderData) and isinstance(test, FolderData) and train.roots == test.roots
    if rank() or not saved or not held_out:
        return
    if (found := fingerprint(train, torch.arange(len(train)))) != saved:
        warn(
            f"the training images have changed since the run ({saved['images']:,} then, {found['images']:,} now): test "
            "images that are held out of them may have been trained on, so restore the images, or give test images "
            "with data.test_root"
        )


def load_method(run: str | Path, changes: Mapping[str, Any] | None = None) -> Method:
    """Loads a trained method in eval mode, without its data. `load_method(run).encoder` is the backbone.

    The arguments and errors are those of `load_run`.
    """
    checkpoint, config = load_saved(run, changes)
    return trained_method(config, checkpoint)


def load_saved(run: str | Path | Checkpoint, changes: Mapping[str, Any] | None) -> tuple[Checkpoint, RunConfig]:
    """Returns the checkpoint and its resolved config, with the arguments and errors of `load_run`.

    Imports no module unless the run folder's config.yaml or `changes` lists it.
    """
    sections = {field.name for field in dataclasses.fields(RunConfig)}
    for key in changes or {}:
        section = key.partition(".")[0]
        if section in sections and section not in _CHANGEABLE:
            hint = "; for other image sizes, set evaluation.image_size" if key.startswith("views") else ""
            raise ConfigError(f"{key} cannot be changed: the run was trained with it{hint}")
    checkpoint = open_checkpoint(run)
    config = saved_config(checkpoint.state, changes)
    if config.imports and "imports" not in (changes or {}):
        known = RunFolder(run_folder(checkpoint.path)).config() or {}
        if known.get("imports") != list(config.imports):
            raise CheckpointError(
                f"{checkpoint.path} would import {list(config.imports)}, which the run's config.yaml does not list. If "
                f"you trust this code, add imports={list(config.imports)}"
            )
    config = resolve(dataclasses.replace(config, backbone=without_weights(config.backbone)))
    method = change_networks(config.method, lambda network, _: without_weights(network))
    return checkpoint, dataclasses.replace(config, method=method)


def trained_preprocessing(
    checkpoint: Checkpoint, config: RunConfig, changes: Mapping[str, Any] | None = None
) -> Preprocessing:
    """Returns the preprocessing of a run: that of its training images, even if the changes name other data.

    Args:
        checkpoint: The checkpoint.
        config: Its resolved config, with the changes. `evaluation.image_size` is the size, if it is set.
        changes: Changes to the config. Only the attributes of a `Preprocessing` in `data`, such as `data.mean`, count;
            a mean or std of None does not.

    Raises:
        CheckpointError: The checkpoint's preprocessing is missing or invalid.
        ConfigError: A change does not fit.
    """
    size = config.evaluation.image_size or call("views", ViewPipeline, config.views, (0.5,), (0.5,)).size
    known = saved_preprocessing(checkpoint).at(size)
    names = {field.name for field in dataclasses.fields(known)}
    data = (changes or {}).get("data")
    given = dict(data) if isinstance(data, Mapping) else {}
    given |= {key.removeprefix("data."): value for key, value in (changes or {}).items() if key.startswith("data.")}
    for name in ("mean", "std"):
        if given.get(name, ()) is None:  # not given
            del given[name]
    changed: Preprocessing = call(
        "data", dataclasses.replace, known, **{name: given[name] for name in names & given.keys()}
    )
    return changed


def saved_preprocessing(checkpoint: Checkpoint) -> Preprocessing:
    """Returns the checkpoint's preprocessing.

    Raises:
        CheckpointError: The preprocessing is missing or invalid.
    """
    try:
        return Preprocessing(**checkpoint.state["preprocessing"])
    except (KeyError, *BAD_ARGUMENTS) as error:
        raise CheckpointError(f"{checkpoint.path} has no valid preprocessing: {error}") from error


def _with_protocols(config: RunConfig, names: Sequence[str]) -> RunConfig:
    """Returns the config with only these protocols, with its own settings or else the defaults."""
    known = config.evaluation.protocols
    for name in names:
        if name not in PROTOCOLS:
            raise ConfigError(f"unknown protocol {name!r}.{did_you_mean(name, PROTOCOLS)}")
    protocols = {name: known.get(name) or {} for name in names}
    return dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, protocols=protocols))


def trained_method(config: RunConfig, checkpoint: Checkpoint) -> Method:
    """Builds the method of a config from `load_saved` with the checkpoint's weights, in eval mode.

    Raises:
        CheckpointError: The weights do not match the method.
    """
    method = build_method(config)
    try:
        method.load_state_dict(checkpoint.state["method"])
    except (*BAD_ARGUMENTS, LookupError, AttributeError) as error:
        raise CheckpointError(
            f"the weights in {checkpoint.path} do not match the method in its config: {error}"
        ) from error
    return method.eval()
