"""Checks a config against the components that it names and adds their defaults; builds nothing."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_lib.config.convert import arguments_of, check_arguments, convert
from ssl_lib.config.networks import change_networks, network_arguments, split_networks
from ssl_lib.config.run_config import EVALUATION_KEYS, Component, RunConfig
from ssl_lib.data import ImageData
from ssl_lib.errors import ConfigError, SSLError, did_you_mean, listed
from ssl_lib.registry import (
    BACKBONES,
    DATASETS,
    LOGGERS,
    METHODS,
    OPTIMIZERS,
    PRESETS,
    PROTOCOLS,
    REGULARIZERS,
    Registry,
)
from ssl_lib.utils.yaml import brief
from ssl_lib.views import ViewConfig, ViewPipeline

__all__ = ["BAD_ARGUMENTS", "DERIVED", "GIVEN", "call", "check_derived", "derive", "resolve", "without_weights"]

Made = typing.TypeVar("Made")

BAD_ARGUMENTS = (ValueError, TypeError, RuntimeError, ArithmeticError, AssertionError)
"""The errors that torch and the networks raise for invalid values."""

DERIVED = {BACKBONES: ("in_channels", "image_size"), METHODS: ("num_images", "num_classes", "image_mean", "image_std")}
"""Arguments that are taken from the data and the views unless the config sets them."""

_NO_WEIGHTS = {"weights": None, "pretrained": False}

GIVEN = {DATASETS: ("split",), METHODS: ("backbone",), OPTIMIZERS: ("params",), LOGGERS: ("run_dir",)}
"""Arguments that the library passes to each kind of component; the config sets the others."""


def resolve(config: RunConfig) -> RunConfig:
    """Imports the user's components, checks the arguments of every component and adds their defaults.

    Raises:
        ConfigError: A name, key or value is wrong; the message names it and the closest allowed one.
    """
    _import_all(config.imports)
    return dataclasses.replace(
        config,
        data=_resolve(config.data, DATASETS, "data"),
        backbone=_resolve(config.backbone, BACKBONES, "backbone"),
        method=_resolve_method(config.method),
        optimizer=_resolve(config.optimizer, OPTIMIZERS, "optimizer"),
        evaluation=dataclasses.replace(config.evaluation, protocols=_resolve_protocols(config.evaluation.protocols)),
        loggers=tuple(_resolve(logger, LOGGERS, f"loggers[{index}]") for index, logger in enumerate(config.loggers)),
        views=_resolve_views(config.views),
    )


def derive(config: RunConfig, train: ImageData, views: ViewPipeline) -> RunConfig:
    """Adds the arguments that the backbone and the method take from the data and the views."""
    values = _derived(train, views)

    def complete(component: Component, registry: Registry) -> Component:
        allowed = arguments_of(registry[component.name])
        known = {name: values[name] for name in DERIVED[registry] if name in allowed}
        return dataclasses.replace(component, arguments={**known, **component.arguments})

    backbone, method = complete(config.backbone, BACKBONES), complete(config.method, METHODS)
    method = change_networks(method, lambda network, _: complete(network, BACKBONES))
    return dataclasses.replace(config, backbone=backbone, method=method)


def check_derived(config: RunConfig, train: ImageData, views: ViewPipeline) -> None:
    """Checks that the config gives a method no other values than the data have.

    Raises:
        ConfigError: A value differs, for instance because it is from another run's config.
    """
    for name, value in _derived(train, views).items():
        if name in DERIVED[METHODS] and (given := config.method.arguments.get(name, value)) != value:
            raise ConfigError(
                f"method.{name} is {brief(given)}, but the data have {brief(value)}: remove the key, it is taken from "
                "the data"
            )


def _derived(train: ImageData, views: ViewPipeline) -> dict[str, Any]:
    """The values of `DERIVED`."""
    values = {"in_channels": train.channels, "image_size": views.size, "num_images": len(train)}
    if train.labels is not None:
        values["num_classes"] = len(train.class_names) or int(train.labels.max()) + 1
    return {**values, "image_mean": views.mean, "image_std": views.std}


def without_weights(backbone: Component) -> Component:
    """Returns the backbone with arguments that let it start from random weights."""
    arguments = {name: _NO_WEIGHTS.get(name, value) for name, value in backbone.arguments.items()}
    return dataclasses.replace(backbone, arguments=arguments)


def call(key: str, part: typing.Callable[..., Made], *args: Any, **kwargs: Any) -> Made:
    """Calls a constructor; an error about its arguments becomes a ConfigError that names the config key."""
    try:
        return part(*args, **kwargs)
    except SSLError:
        raise
    except BAD_ARGUMENTS as error:
        raise ConfigError(f"{key}: {error}") from error


def _resolve(component: Component, registry: Registry, key: str, given: Sequence[str] = ()) -> Component:
    given = (*GIVEN.get(registry, ()), *given)
    allowed = arguments_of(registry[component.name], given)
    if "name" in allowed:  # a config with it could not be written and read again
        raise ConfigError(
            f"{key}: {component.name} has an argument called name, which in a config is the component's own name: "
            "rename the argument"
        )
    for name in [name for name in component.arguments if name not in allowed]:
        owners = [other for other in registry if name in arguments_of(registry[other], given)]
        if owners:
            raise ConfigError(
                f"unknown key {brief(f'{key}.{name}')}: {component.name} takes "
                f"{', '.join(allowed) or 'no arguments'}; {brief(name)} is an argument of {listed(owners, 3)}. "
                f"On the command line {key}=NAME selects another component, with its own defaults"
            )
    derived = {name for name in DERIVED.get(registry, ()) if name not in component.arguments}
    checked = check_arguments(component.arguments, {k: v for k, v in allowed.items() if k not in derived}, key)
    arguments = {k: v for k, v in checked.items() if k in component.arguments or _is_plain(v)}
    return Component(name=component.name, arguments=arguments)


def _resolve_method(method: Component) -> Component:
    """The arguments of a method, its networks and its regularizers, a list of mappings with a name and a weight."""
    method, networks = split_networks(method)
    arguments = dict(method.arguments)
    entries = convert(arguments.pop("regularizers", []), list[dict[str, Any]], "method.regularizers")
    kept = network_arguments(METHODS[method.name])
    resolved = _resolve(Component(name=method.name, arguments=arguments), METHODS, "method", tuple(kept))
    regularizers = []
    for index, entry in enumerate(entries):
        key, values = f"method.regularizers[{index}]", dict(entry)
        name = convert(values.pop("name", None), str, f"{key}.name")
        weight = convert(values.pop("weight", None), float, f"{key}.weight")
        part = _resolve(Component(name=name, arguments=values), REGULARIZERS, key)
        regularizers.append({"name": name, "weight": weight, **part.arguments})
    added: dict[str, Any] = {"regularizers": regularizers} if regularizers else {}
    added |= {name: _resolve_network(network, f"method.{name}") for name, network in networks.items()}
    return dataclasses.replace(resolved, arguments={**resolved.arguments, **added})


def _resolve_network(network: Component, key: str) -> Component:
    """The arguments of a network that is an argument of a method."""
    try:
        BACKBONES[network.name]
    except ConfigError as error:
        raise ConfigError(f"{key}.name: {error}") from error
    return _resolve(network, BACKBONES, key)


def _resolve_protocols(protocols: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of every protocol with their defaults; a message suggests the section's other keys, too."""
    resolved: dict[str, Any] = {}
    for name, arguments in protocols.items():
        key = f"evaluation.{name}"
        if name not in PROTOCOLS:
            hint = did_you_mean(name, {*PROTOCOLS, *EVALUATION_KEYS}, "evaluation")
            raise ConfigError(f"unknown key {brief(key)}.{hint}")
        if arguments is not None and not isinstance(arguments, Mapping):
            raise ConfigError(f"{key}: expected a mapping, got {brief(arguments)}; null turns it off")
        resolved[name] = None
        if arguments is not None:
            resolved[name] = check_arguments(arguments, arguments_of(PROTOCOLS[name]), key)
            call(key, PROTOCOLS[name], **resolved[name])
    return resolved


def _is_plain(value: Any) -> bool:
    """Whether YAML can express a value; other defaults are left to the constructor."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _resolve_views(views: Mapping[str, Any] | list[Any]) -> list[ViewConfig]:
    """The view configs: from a list, or from a preset with its arguments and fields to replace in every view."""
    if isinstance(views, list):
        return [convert(view, ViewConfig, f"views[{index}]") for index, view in enumerate(views)]
    values = dict(views)
    if "preset" not in values:
        raise ConfigError(f"missing key 'views.preset': give a preset or a list of views.{did_you_mean('', PRESETS)}")
    preset = PRESETS[convert(values.pop("preset"), str, "views.preset")]
    own = arguments_of(preset)
    fields = {name: field.replace(default=None) for name, field in arguments_of(ViewConfig).items()}
    checked = check_arguments(values, {**fields, **own}, "views")
    arguments, changes = {name: checked[name] for name in own}, {name: checked[name] for name in values.keys() - own}
    return [call("views", dataclasses.replace, view, **changes) for view in call("views", preset, **arguments)]


def _import_all(names: Sequence[str]) -> None:
    """Imports modules by name and files by path, so that they register their components."""
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
    """Imports a file as a module, with its folder on the path, so that worker processes find it, too."""
    if not path.is_file():
        raise ConfigError(f"imports: there is no file {str(path)!r}")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.import_module(path.stem)
    if Path(module.__file__ or "").resolve() != path.resolve():
        raise ConfigError(f"imports: {str(path)!r} has the name of another module, {module.__file__}; rename it")
