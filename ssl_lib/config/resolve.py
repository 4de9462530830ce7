"""Checks a config against the parts it names, and writes their defaults out; builds nothing."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_lib.config.convert import Argument, arguments_of, check_arguments, convert
from ssl_lib.config.run_config import Component, EvaluationConfig, RunConfig
from ssl_lib.data import ImageData
from ssl_lib.errors import ConfigError, SSLError, did_you_mean, listed
from ssl_lib.registry import BACKBONES, DATASETS, LOGGERS, METHODS, OPTIMIZERS, PRESETS, PROTOCOLS, Registry
from ssl_lib.views import ViewConfig, ViewPipeline

__all__ = ["BAD_ARGUMENTS", "DERIVED", "GIVEN", "NO_WEIGHTS", "call", "derive_backbone", "resolve", "without_weights"]

Made = typing.TypeVar("Made")

BAD_ARGUMENTS = (ValueError, TypeError, RuntimeError, ArithmeticError, AssertionError)
"""What torch and the networks raise for values that cannot be."""

DERIVED = ("in_channels", "image_size")
"""Arguments of a backbone that follow the data and the views unless the config sets them."""

NO_WEIGHTS = {"weights": None, "pretrained": False}
"""What makes a backbone start from random weights."""

GIVEN = {DATASETS: ("split",), METHODS: ("backbone",), OPTIMIZERS: ("params",), LOGGERS: ("run_dir",)}
"""What the library passes to each kind of part itself; the other arguments are the config's."""


def resolve(config: RunConfig) -> RunConfig:
    """Imports the user's own parts, checks every part's arguments and fills in their defaults.

    Raises:
        ConfigError: A name, key or value is wrong; the message names it and the nearest allowed one.
    """
    _import_all(config.imports)
    return dataclasses.replace(
        config,
        data=_resolve(config.data, DATASETS, "data"),
        backbone=_resolve(config.backbone, BACKBONES, "backbone"),
        method=_resolve(config.method, METHODS, "method"),
        optimizer=_resolve(config.optimizer, OPTIMIZERS, "optimizer"),
        evaluation=dataclasses.replace(config.evaluation, protocols=_resolve_protocols(config.evaluation.protocols)),
        loggers=tuple(_resolve(logger, LOGGERS, f"loggers[{index}]") for index, logger in enumerate(config.loggers)),
        views=[dataclasses.asdict(view) for view in _resolve_views(config.views)],
    )


def derive_backbone(config: RunConfig, train: ImageData, views: ViewPipeline) -> RunConfig:
    """The config with what its backbone takes from the data and the views."""
    derived = dict(zip(DERIVED, (train.channels, views.size), strict=True))
    allowed = arguments_of(BACKBONES[config.backbone.name])
    known = {name: value for name, value in derived.items() if name in allowed}
    backbone = Component(name=config.backbone.name, arguments={**known, **config.backbone.arguments})
    return dataclasses.replace(config, backbone=backbone)


def without_weights(config: RunConfig) -> RunConfig:
    """The config with a backbone that starts from random weights."""
    arguments = {name: NO_WEIGHTS.get(name, value) for name, value in config.backbone.arguments.items()}
    backbone = Component(name=config.backbone.name, arguments=arguments)
    return dataclasses.replace(config, backbone=backbone)


def call(key: str, part: typing.Callable[..., Made], *args: Any, **kwargs: Any) -> Made:
    """Calls a constructor; an error about its arguments becomes a ConfigError that names the config's key."""
    try:
        return part(*args, **kwargs)
    except SSLError:
        raise
    except BAD_ARGUMENTS as error:
        raise ConfigError(f"{key}: {error}") from error


def _resolve(component: Component, registry: Registry, key: str) -> Component:
    given = GIVEN.get(registry, ())
    allowed = arguments_of(registry[component.name], given)
    if "name" in allowed:  # a config could not be written and read again
        what = f"{key}: {component.name} has an argument called name"
        raise ConfigError(f"{what}, which in a config is what the part is called: rename it")
    for name in [name for name in component.arguments if name not in allowed]:
        owners = [other for other in registry if name in arguments_of(registry[other], given)]
        if owners:
            raise ConfigError(
                f"unknown key '{key}.{name}': {component.name} takes {', '.join(allowed) or 'no arguments'}; "
                f"{listed(owners, 3)} would take {name}. On the command line {key}=NAME takes another part with "
                "its own defaults"
            )
    checked = check_arguments(component.arguments, allowed, key)
    derived = {name for name in DERIVED if registry is BACKBONES and name not in component.arguments}
    arguments = {k: v for k, v in checked.items() if k in component.arguments or (k not in derived and _is_plain(v))}
    return Component(name=component.name, arguments=arguments)


def _resolve_protocols(protocols: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of every protocol, its defaults filled in; an unknown key may also be one of the section's own."""
    resolved: dict[str, Any] = {}
    for name, arguments in protocols.items():
        if name not in PROTOCOLS:
            known = [*PROTOCOLS, *(entry.name for entry in dataclasses.fields(EvaluationConfig))]
            raise ConfigError(
                f"unknown key 'evaluation.{name}'.{did_you_mean(name, sorted(set(known) - {'protocols'}))}"
            )
        key = f"evaluation.{name}"
        if arguments is not None and not isinstance(arguments, Mapping):
            raise ConfigError(f"{key}: expected a mapping, got {arguments!r}; null leaves it out")
        part = PROTOCOLS[name]
        resolved[name] = None if arguments is None else check_arguments(arguments, arguments_of(part), key)
        if arguments is not None:
            call(key, part, **resolved[name])
    return resolved


def _is_plain(value: Any) -> bool:
    """Whether YAML can express a value; a default that it cannot stays with its constructor."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _resolve_views(views: Mapping[str, Any] | list[Any]) -> list[ViewConfig]:
    """A list of view configs; or a preset with its arguments, and with fields to replace in every view."""
    if isinstance(views, list):
        return [convert(view, ViewConfig, f"views[{index}]") for index, view in enumerate(views)]
    values = dict(views)
    if "preset" not in values:
        raise ConfigError(f"missing key 'views.preset': give a preset or a list of views.{did_you_mean('', PRESETS)}")
    preset = PRESETS[convert(values.pop("preset"), str, "views.preset")]
    own = arguments_of(preset)
    fields = typing.get_type_hints(ViewConfig)
    for name in values:
        if name not in own and name not in fields:
            raise ConfigError(f"unknown key 'views.{name}'.{did_you_mean(name, {*own, *fields})}")
    arguments = check_arguments({k: v for k, v in values.items() if k in own}, own, "views")
    changes = {k: Argument(fields[k], None) for k in values if k not in own}
    changed = check_arguments({k: values[k] for k in changes}, changes, "views")
    return [call("views", dataclasses.replace, view, **changed) for view in call("views", preset, **arguments)]


def _import_all(names: Sequence[str]) -> None:
    """Imports modules by name, and files by path, so that they register their parts."""
    for name in names:
        try:
            if name.endswith(".py"):
                _import_file(Path(name))
            else:
                importlib.import_module(name)
        except SSLError:
            raise
        except (ImportError, OSError, SyntaxError, ValueError) as error:
            raise ConfigError(f"imports: cannot import {name!r}: {error}") from error


def _import_file(path: Path) -> None:
    """Imports a file as a module of its own name, so that worker processes find it too, with its folder on the path."""
    if not path.is_file():
        raise ConfigError(f"imports: there is no file {str(path)!r}")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.import_module(path.stem)
    if Path(module.__file__ or "").resolve() != path.resolve():
        raise ConfigError(f"imports: {str(path)!r} has the name of another module, {module.__file__}; rename it")
