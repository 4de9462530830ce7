"""From a run's folder back to objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_lib.config.load import load_config, saved_config
from ssl_lib.config.resolve import BAD_ARGUMENTS, derive_backbone, resolve, without_weights
from ssl_lib.config.run_config import RunConfig
from ssl_lib.data import ImageData
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.errors import CheckpointError, ConfigError, did_you_mean
from ssl_lib.evaluation import Evaluator
from ssl_lib.experiment.build import build_evaluator, build_method, build_views
from ssl_lib.methods import Method
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.files import CONFIG_FILE
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.checkpoint_folder import find_checkpoint
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
    """A run to look at.

    Attributes:
        config: As it was trained, with the overrides.
        method: With the trained weights, in eval mode, on the CPU; `method.encoder` is its backbone.
        evaluator: None where the data have no labeled images, or none was asked for.
        steps: Optimizer updates that were made.
        train: The images that it was trained on, whose `mean` and `std` normalize all that it is shown.
        view_size: Side of the large views it was trained on, in pixels.
        preprocessing: How it is shown images, those of the evaluator among them.
    """

    config: RunConfig
    method: Method
    evaluator: Evaluator | None
    steps: int
    train: ImageData
    view_size: int
    preprocessing: Preprocessing


def load_run(run: str | Path, overrides: Sequence[str] = (), protocols: Sequence[str] | None = ()) -> TrainedRun:
    """Rebuilds a trained run, the images to evaluate it on included.

    Args:
        run: A run's folder, for its last checkpoint, or one checkpoint file.
        overrides: `key.subkey=value` changes to its `data`, `evaluation`, `trainer` or `imports`, such as another
            `data.root`; the rest made the weights what they are.
        protocols: What the evaluator is to measure, by name, with the config's settings where it has them; none for
            what the config names; None for no evaluator, and no test images.

    Raises:
        ConfigError: An override is of another key, or wrong.
        CheckpointError: There is no checkpoint, it does not fit, was saved by a script without a config, or names
            modules to import that the run's folder does not.
    """
    saved, config = load_saved(run, overrides)
    if protocols:
        config = resolve(_with_protocols(config, protocols))
    train, views = build_views(config)
    config = derive_backbone(config, train, views)
    method = trained_method(config, saved, run)
    preprocessing = trained_preprocessing(saved, config, train, views, run)
    evaluator = None if protocols is None else build_evaluator(config, train, views, preprocessing)
    return TrainedRun(config, method, evaluator, saved["step"], train, views.size, preprocessing)


def load_method(run: str | Path, overrides: Sequence[str] = ()) -> Method:
    """Rebuilds a trained method alone, in eval mode: `load_method(run).encoder` is its backbone. Needs no data.

    Args:
        run: As for `load_run`.
        overrides: As for `load_run`.

    Raises:
        CheckpointError: As `load_run`.
    """
    saved, config = load_saved(run, overrides)
    return trained_method(config, saved, run)


def load_saved(run: str | Path, overrides: Sequence[str]) -> tuple[Mapping[str, Any], RunConfig]:
    """The checkpoint, and its config resolved, once it is clear that no code comes with it unasked."""
    for key in (text.partition("=")[0] for text in overrides):
        section, sections = key.partition(".")[0], [field.name for field in dataclasses.fields(RunConfig)]
        if section not in sections:
            raise ConfigError(f"unknown key {key!r}.{did_you_mean(section, sections)}")
        if section not in _CHANGEABLE:
            hint = "; for other image sizes, set evaluation.image_size" if key.startswith("views") else ""
            raise ConfigError(f"{key} cannot change any more: the run was trained with it{hint}")
    path = find_checkpoint(run)
    saved = load_checkpoint(path)
    config = saved_config(saved, overrides)
    if config.imports and not any(text.startswith("imports=") for text in overrides):
        beside = path.parent.parent / CONFIG_FILE
        known = load_config(beside).imports if beside.is_file() else ()
        if known != config.imports:
            raise CheckpointError(
                f"{path} names code to import, {list(config.imports)}: if you trust it, say so with "
                f"the override imports={list(config.imports)}"
            )
    return saved, resolve(without_weights(config))


def trained_preprocessing(
    saved: Mapping[str, Any], config: RunConfig, train: ImageData, views: ViewPipeline, run: str | Path
) -> Preprocessing:
    """How a run is shown images: resized as those it was trained on, even where the config now names others.

    Raises:
        CheckpointError: What the checkpoint says of it cannot be.
    """
    size = config.evaluation.image_size or views.size
    known = saved_preprocessing(saved, run)
    if known is None:
        return Preprocessing.of(train, size)
    return dataclasses.replace(known.at(size), mean=train.mean, std=train.std)


def saved_preprocessing(saved: Mapping[str, Any], run: str | Path) -> Preprocessing | None:
    """The checkpoint's; None where it is of a version that noted none.

    Raises:
        CheckpointError: It cannot be.
    """
    if saved.get("preprocessing") is None:
        return None
    try:
        return Preprocessing(**saved["preprocessing"])
    except BAD_ARGUMENTS as error:
        raise CheckpointError(f"{run} holds a pre-processing that cannot be: {error}") from error


def _with_protocols(config: RunConfig, names: Sequence[str]) -> RunConfig:
    """The config with these protocols, as it sets them or else with their defaults."""
    known = config.evaluation.protocols
    for name in names:
        if name not in PROTOCOLS:
            raise ConfigError(f"unknown protocol {name!r}.{did_you_mean(name, PROTOCOLS)}")
    protocols = {name: known.get(name) or {} for name in names}
    return dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, protocols=protocols))


def trained_method(config: RunConfig, saved: Mapping[str, Any], run: str | Path) -> Method:
    """The method of a config that `load_saved` gave, with the checkpoint's weights, in eval mode."""
    method = build_method(config)
    try:
        method.load_state_dict(saved["method"])
    except RuntimeError as error:
        raise CheckpointError(f"{run} does not fit the method of its config: {error}") from error
    return method.eval()
