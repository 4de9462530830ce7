"""Builds the method of a config: its backbone, its other networks and its regularizers."""

from __future__ import annotations

import sys

import torch
from torch import nn

from ssl_lib.backbones.base import check_backbone
from ssl_lib.config.networks import split_networks
from ssl_lib.config.resolve import BAD_ARGUMENTS, call, without_weights
from ssl_lib.config.run_config import Component, RunConfig
from ssl_lib.distributed import rank
from ssl_lib.errors import ConfigError
from ssl_lib.experiment.components import make
from ssl_lib.methods import Method
from ssl_lib.registry import BACKBONES, METHODS, REGULARIZERS

__all__ = ["build_method", "note_random_networks"]


def build_method(config: RunConfig) -> Method:
    """Builds the method of a resolved config, initialized from its seed; the global random state is preserved."""
    own, networks = split_networks(config.method)
    arguments = dict(own.arguments)
    entries = [dict(entry) for entry in arguments.pop("regularizers", ())]
    component, kind = Component(name=own.name, arguments=arguments), METHODS[own.name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbone = make(BACKBONES, config.backbone, "backbone")
        call("backbone", check_backbone, backbone, getattr(kind, "needs", "features"), component.name)
        others = {name: _make_network(network, f"method.{name}") for name, network in networks.items()}
        method: Method = make(METHODS, component, "method", backbone=backbone, **others)
    for entry in entries:
        name, weight = entry.pop("name"), entry.pop("weight")
        loss = call(f"method.regularizers {name}", REGULARIZERS[name], **entry)
        method.regularizers = {**method.regularizers, name: (weight, loss)}
    return method


def _make_network(component: Component, key: str) -> nn.Module:
    """Builds a network that is an argument of a method; errors name its key."""
    try:
        network: nn.Module = BACKBONES[component.name](**component.arguments)
    except (ConfigError, *BAD_ARGUMENTS) as error:
        raise ConfigError(f"{key} {component.name}: {error}") from error
    return network


def note_random_networks(method: Component) -> None:
    """Prints a note for each network of a method, except for its backbone, that starts from random weights."""
    for name, network in split_networks(method)[1].items():
        if network == without_weights(network) and rank() == 0:
            print(
                f"note: method.{name} has random weights; to use trained ones, set method.{name}.weights to a run or "
                "a file",
                file=sys.stderr,
            )
