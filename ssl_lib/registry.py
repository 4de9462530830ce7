"""Names for parts: a decorator beside the class, and the constructor's signature as the schema."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.utils.lazy import import_lazily

__all__ = [
    "BACKBONES",
    "DATASETS",
    "KINDS",
    "LOGGERS",
    "METHODS",
    "OPTIMIZERS",
    "PRESETS",
    "PROTOCOLS",
    "Registry",
]

Part = TypeVar("Part", bound=Callable[..., Any])


class Registry:
    """A table from names to the classes or functions that build one kind of part.

    A name that ends in `/*`, such as `timm/*`, stands for a family: `registry["timm/vit_small"]` is its builder
    with the rest of the name as first argument.

    Args:
        kind: What messages call a part.
        module: The module that registers the library's own parts; it is imported when the table is first used.
    """

    def __init__(self, kind: str, module: str | None = None) -> None:
        self.kind, self.module = kind, module
        self._parts: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[Part], Part]:
        """Decorator that enters a class or function under `name`.

        Raises:
            ValueError: The name is taken by another part.
        """

        def enter(part: Part) -> Part:
            taken = self._filled().get(name)
            if taken is not None and _origin(taken) != _origin(part):
                raise ValueError(f"{self.kind} {name!r} is taken by {_origin(taken)}; choose another name")
            self._parts[name] = part
            return part

        return enter

    def __getitem__(self, name: str) -> Callable[..., Any]:
        parts = self._filled()
        if name in parts:
            return parts[name]
        family, slash, member = name.partition("/")
        if slash and member and f"{family}/*" in parts:
            return functools.partial(parts[f"{family}/*"], member)
        raise ConfigError(f"unknown {self.kind} {name!r}.{did_you_mean(name, parts)}")

    def __contains__(self, name: str) -> bool:
        return name in self._filled()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._filled()))

    def __len__(self) -> int:
        return len(self._filled())

    def _filled(self) -> dict[str, Callable[..., Any]]:
        """All parts, the library's own included."""
        if self.module is not None:
            import_lazily(self.module)
        return self._parts


def _origin(part: Callable[..., Any]) -> str:
    return f"{part.__module__}.{part.__qualname__}"


BACKBONES = Registry("backbone", "ssl_lib.backbones")
METHODS = Registry("method", "ssl_lib.methods")
LOGGERS = Registry("logger", "ssl_lib.training.callbacks")
DATASETS = Registry("data set", "ssl_lib.data")
OPTIMIZERS = Registry("optimizer", "ssl_lib.optim")
PRESETS = Registry("view preset", "ssl_lib.views")
PROTOCOLS = Registry("evaluation protocol", "ssl_lib.evaluation")

KINDS = {
    "methods": METHODS,
    "backbones": BACKBONES,
    "data": DATASETS,
    "views": PRESETS,
    "optimizers": OPTIMIZERS,
    "protocols": PROTOCOLS,
    "loggers": LOGGERS,
}
"""By the names that `ssl-lib list` takes."""
