"""Registry of components by name; a component's constructor signature is its config schema."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, TypeVar

from ssl_lib.errors import ConfigError, did_you_mean

__all__ = [
    "BACKBONES",
    "DATASETS",
    "KINDS",
    "LOGGERS",
    "METHODS",
    "OPTIMIZERS",
    "PRESETS",
    "PROTOCOLS",
    "REGULARIZERS",
    "TRAINER",
    "Registry",
    "import_lazily",
]

Component = TypeVar("Component", bound=Callable[..., Any])

_ONE_AT_A_TIME = threading.RLock()


def import_lazily(name: str) -> ModuleType:
    """Imports a module while no other thread does so by this function.

    torchvision's modules import each other in a cycle: two threads that enter it at different ends would deadlock.
    """
    with _ONE_AT_A_TIME:
        return importlib.import_module(name)


class Registry:
    """Maps names to the classes or functions that build one kind of component.

    A name that ends in `/*`, such as `timm/*`, registers a family: `registry["timm/vit_small"]` returns its builder
    with the rest of the name bound as the first argument.

    Args:
        kind: Name of the kind of component in error messages, e.g. "backbone".
        module: Module that registers the library's own components; it is imported when the registry is first used.
    """

    def __init__(self, kind: str, module: str | None = None) -> None:
        self.kind, self.module = kind, module
        self._parts: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[Component], Component]:
        """Decorator that registers a class or function under `name`.

        Raises:
            ValueError: The name is already taken by another component.
        """

        def add(component: Component) -> Component:
            own = component.__module__.startswith("ssl_lib.")  # its import may run: it must not wait for another thread
            taken = (self._parts if own else self._loaded()).get(name)
            if taken is not None and _origin(taken) != _origin(component):
                raise ValueError(f"{self.kind} {name!r} is taken by {_origin(taken)}; choose another name")
            self._parts[name] = component
            return component

        return add

    def __getitem__(self, name: str) -> Callable[..., Any]:
        components = self._loaded()
        if name in components:
            return components[name]
        family, slash, member = name.partition("/")
        if slash and member and f"{family}/*" in components:
            return functools.partial(components[f"{family}/*"], member)
        raise ConfigError(f"unknown {self.kind} {name!r}.{did_you_mean(name, components)}")

    def __contains__(self, name: str) -> bool:
        return name in self._loaded()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._loaded()))

    def __len__(self) -> int:
        return len(self._loaded())

    def _loaded(self) -> dict[str, Callable[..., Any]]:
        """Returns all components, after the library's own have been registered."""
        if self.module is not None:
            import_lazily(self.module)
        return self._parts


def _origin(component: Callable[..., Any]) -> str:
    return f"{component.__module__}.{component.__qualname__}"


BACKBONES = Registry("backbone", "ssl_lib.backbones")
METHODS = Registry("method", "ssl_lib.methods")
LOGGERS = Registry("logger", "ssl_lib.training.callbacks")
DATASETS = Registry("data set", "ssl_lib.data")
OPTIMIZERS = Registry("optimizer", "ssl_lib.optim")
PRESETS = Registry("view preset", "ssl_lib.views")
PROTOCOLS = Registry("evaluation protocol", "ssl_lib.evaluation")
REGULARIZERS = Registry("regularizer", "ssl_lib.losses")
TRAINER = Registry("class configured by `trainer`", "ssl_lib.training.trainer")

KINDS = {
    "methods": METHODS,
    "backbones": BACKBONES,
    "data": DATASETS,
    "views": PRESETS,
    "regularizers": REGULARIZERS,
    "optimizers": OPTIMIZERS,
    "protocols": PROTOCOLS,
    "loggers": LOGGERS,
}
"""Registries by the names that `ssl-lib list` accepts."""
