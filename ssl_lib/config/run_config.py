"""The settings of a run, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ssl_lib.errors import ConfigError
from ssl_lib.optim.schedules import Schedule
from ssl_lib.utils.yaml import brief

__all__ = ["EVALUATION_KEYS", "Component", "EvaluationConfig", "RunConfig", "Source", "as_component"]


@dataclass(frozen=True, kw_only=True)
class Component:
    """A component by its registered name, with constructor arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def as_component(value: Any, key: str) -> Component:
    """Converts a name, or a mapping with a name and arguments, to a component.

    Raises:
        ConfigError: The value is neither; the message names the key.
    """
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ConfigError(f"{key}: expected a name and arguments, such as {{name: ...}}, got {brief(value)}")
    return Component(name=value["name"], arguments={name: entry for name, entry in value.items() if name != "name"})


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is evaluated during training and by `ssl-lib evaluate`.

    Attributes:
        every_epochs: Epochs between evaluations; the last epoch is always evaluated. 0 turns evaluation off.
        image_size: Side of the images fed to the frozen backbone, in pixels; null takes the size of the large views.
        online_images: Training and test images to use before the last epoch, always the same; null uses all.
        protocols: Arguments by protocol name; in YAML they are keys next to the keys above. null turns one off.
    """

    every_epochs: int = 10
    image_size: int | None = None
    online_images: int | None = None
    protocols: Mapping[str, Any] = field(default_factory=lambda: {"knn": {}, "linear": {}})

    def __post_init__(self) -> None:
        if self.every_epochs < 0:
            raise ValueError(f"every_epochs must be at least 0, got {self.every_epochs}")
        for name in ("image_size", "online_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


EVALUATION_KEYS = tuple(entry.name for entry in fields(EvaluationConfig) if entry.name != "protocols")
"""Keys of `evaluation` that are not protocols."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a recipe comes from, and how it differs. It documents a config and changes nothing.

    Attributes:
        of: The repository and its files, or the paper.
        result: The result reported there.
        values: The source's settings, by full key such as `method.temperature`, in this library's units.
        differences: The reason for each setting that differs from `values`, by full key; and for each difference that
            is not a setting here, by a name such as `batch statistics`.
    """

    of: str
    result: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    differences: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything about a run.

    Attributes:
        views: A preset and its arguments, or a list of mappings, one per `ViewConfig`; after `resolve` the latter.
        trainer: Arguments of `Trainer`, `Checkpoints` and `Loader`, with all defaults.
    """

    data: Component
    backbone: Component
    method: Component
    optimizer: Component
    views: Mapping[str, Any] | list[Any]
    seed: int = 0
    schedule: Schedule = field(default_factory=Schedule)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    loggers: tuple[Component, ...] = ()
    run_dir: str = "runs/run"
    imports: tuple[str, ...] = ()
    source: Source | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2**32), got {self.seed}")
