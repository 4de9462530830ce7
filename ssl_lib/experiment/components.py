"""Builds the components that a config names: data sets, networks and other entries of the registries."""

from __future__ import annotations

from typing import Any

from ssl_lib.config.convert import arguments_of
from ssl_lib.config.resolve import call
from ssl_lib.config.run_config import Component, RunConfig
from ssl_lib.data import ImageData, Split, as_image_data
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS, Registry

__all__ = ["make", "make_data"]


def make_data(config: RunConfig, split: Split) -> ImageData | None:
    """Builds a split of the data; None if the data have no such split."""
    try:
        data = make(DATASETS, config.data, "data", split=split)
        return None if data is None else call("data", as_image_data, data)
    except DataError as error:
        raise DataError(f"data: {error}") from error


def make(registry: Registry, component: Component, key: str, **given: Any) -> Any:
    """Builds a component from its config arguments and the arguments in `given` that it accepts."""
    builder = registry[component.name]
    accepted = arguments_of(builder)
    given = {name: value for name, value in given.items() if name in accepted}
    return call(f"{key} {component.name}", builder, **given, **component.arguments)
