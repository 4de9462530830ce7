"""Names for parts: a decorator beside the class, and the constructor's signature as the schema."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ssl_lib.errors import ConfigError, did_you_mean

__all__ = ["BACKBONES", "DATASETS", "LOGGERS", "LOSSES", "METHODS", "OPTIMIZERS", "PRESETS", "PROTOCOLS", "Registry"]

Part = TypeVar("Part", bound=Callable[..., Any])


class Registry:
    """A table from names to the classes or functions that build one kind of part.

    A name that ends in `/*`, such as `timm/*`, stands for a family: `registry["timm/vit_small"]` is its builder
    with the rest of the name as first argument.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[Part], Part]:
        """Decorator that enters a class or function under `name`.

        Raises:
            ValueError: The name is taken by another part.
        """

        def enter(part: Part) -> Part:
            taken = self._parts.get(name)
            if taken is not None and _origin(taken) != _origin(part):
                raise ValueError(f"{self.kind} {name!r} is taken by {_origin(taken)}; choose another name")
            self._parts[name] = part
            return part

        return enter

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name in self._parts:
            return self._parts[name]
        family, slash, member = name.partition("/")
        if slash and member and f"{family}/*" in self._parts:
            return functools.partial(self._parts[f"{family}/*"], member)
        raise ConfigError(f"unknown {self.kind} {name!r}.{did_you_mean(name, self._parts)}")

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._parts))

    def __len__(self) -> int:
        return len(self._parts)


def _origin(part: Callable[..., Any]) -> str:
    return f"{part.__module__}.{part.__qualname__}"


BACKBONES = Registry("backbone")
METHODS = Registry("method")
LOSSES = Registry("loss")
LOGGERS = Registry("logger")
DATASETS = Registry("data set")
OPTIMIZERS = Registry("optimizer")
PRESETS = Registry("view preset")
PROTOCOLS = Registry("evaluation protocol")
