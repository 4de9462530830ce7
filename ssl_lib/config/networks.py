"""Networks as arguments of methods: an argument annotated `nn.Module` is a backbone in a config."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from torch import nn

from ssl_lib.config.convert import REQUIRED, arguments_of
from ssl_lib.config.run_config import Component, as_component
from ssl_lib.errors import ConfigError
from ssl_lib.registry import METHODS

__all__ = ["change_networks", "network_arguments", "split_networks"]


def network_arguments(method: Callable[..., Any]) -> dict[str, Parameter]:
    """Returns the arguments of a method that are networks, except for its backbone."""
    arguments = arguments_of(method, ("backbone",)).items()
    return {name: argument for name, argument in arguments if _is_network(argument.annotation)}


def _is_network(annotation: Any) -> bool:
    """Whether an argument is a module, or a module or None; a class of modules is no network."""
    options = typing.get_args(annotation) if typing.get_origin(annotation) in (types.UnionType, typing.Union) else ()
    return nn.Module in (annotation, *options)


def split_networks(method: Component) -> tuple[Component, dict[str, Component]]:
    """Splits a method's component into the method without its networks, and the networks by argument.

    An optional network that is null, or not given, is left out.

    Raises:
        ConfigError: A network is missing, or is not a name with arguments.
    """
    arguments, networks = dict(method.arguments), {}
    for name, argument in network_arguments(METHODS[method.name]).items():
        value = arguments.pop(name, argument.default)
        if value is REQUIRED or (value is None and argument.default is REQUIRED):
            raise ConfigError(
                f"missing key 'method.{name}.name': {method.name} needs a second network; give a backbone, such as "
                f"method.{name}={{name: resnet18, weights: RUN}}"
            )
        if value is not None:
            networks[name] = value if isinstance(value, Component) else as_component(value, f"method.{name}")
    return dataclasses.replace(method, arguments=arguments), networks


def change_networks(method: Component, change: Callable[[Component, str], Component]) -> Component:
    """Returns a method's component with every network replaced by `change(network, key)`, such as `method.teacher`."""
    own, networks = split_networks(method)
    changed = {name: change(network, f"method.{name}") for name, network in networks.items()}
    return dataclasses.replace(own, arguments={**own.arguments, **changed})
