"""What a config's settings are when nobody says anything: the constructors' defaults and the method's own views."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from ssl_lib.config.convert import REQUIRED, arguments_of
from ssl_lib.config.load import plain
from ssl_lib.config.resolve import DERIVED
from ssl_lib.config.run_config import EvaluationConfig, TrainerConfig
from ssl_lib.errors import ConfigError
from ssl_lib.optim import Schedule
from ssl_lib.registry import BACKBONES, DATASETS, METHODS, OPTIMIZERS, PRESETS, PROTOCOLS, Registry
from ssl_lib.utils.yaml import flat
from ssl_lib.views import ViewConfig

__all__ = ["defaults_of", "part_name", "recipe_source"]

_PARTS = {"data": DATASETS, "backbone": BACKBONES, "method": METHODS, "optimizer": OPTIMIZERS}


def defaults_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """By dotted key, the defaults of the parts that a config names; what has none is missing."""
    found: dict[str, Any] = {}
    for key, registry in _PARTS.items():
        found |= _of_part(config.get(key), registry, key)
    sections = {"trainer": TrainerConfig(), "schedule": Schedule(), "evaluation": EvaluationConfig()}
    found |= flat(plain(sections))
    evaluation = config.get("evaluation")
    for name in PROTOCOLS:
        if isinstance(evaluation, Mapping) and isinstance(evaluation.get(name), Mapping):
            found |= _of_part({**evaluation[name], "name": name}, PROTOCOLS, f"evaluation.{name}")
    return found | _views(config) | {"seed": 0}


def part_name(component: Any) -> str:
    """Of a config's part, which may stand there by its name alone; empty where it has none."""
    name = component.get("name") if isinstance(component, Mapping) else component
    return name if isinstance(name, str) else ""


def recipe_source(config: Mapping[str, Any]) -> str:
    """The paper and repository that a method's docstring names, such as `Chen et al. 2020, arXiv:2002.05709`."""
    name = part_name(config.get("method"))
    if name not in METHODS:
        return ""
    first = (inspect.getdoc(METHODS[name]) or "").split("\n\n")[0]
    found = re.search(r"\((.*)\)", first, flags=re.S)
    return " ".join(found[1].split()) if found else ""


def _of_part(component: Any, registry: Registry, key: str) -> dict[str, Any]:
    try:
        allowed = arguments_of(registry[part_name(component)])
    except (ConfigError, ValueError, TypeError):  # a part of the user's own that is not imported here
        return {}
    return {
        f"{key}.{k}": plain(a.default) for k, a in allowed.items() if a.default is not REQUIRED and k not in DERIVED
    }


def _views(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the preset that has the method's name, of the run's sizes and as many; else a view's own. No sizes."""
    views = config.get("views")
    if not isinstance(views, list) or not views or not all(isinstance(view, Mapping) for view in views):
        return {}
    made = _preset(part_name(config.get("method")), views) or [ViewConfig()] * len(views)
    defaults = flat([plain(view) for view in made], "views")
    return {key: value for key, value in defaults.items() if not key.endswith(".size")}


def _preset(name: str, views: list[Mapping[str, Any]]) -> list[ViewConfig] | None:
    """The views of a preset, with the sizes of these and as many small ones; None where it does not make them."""
    sizes: list[Any] = [view.get("size") for view in views]
    if name not in PRESETS or not all(isinstance(size, int) for size in sizes):
        return None
    large, small = max(sizes), min(sizes)
    count = sum(view.get("count", 1) for view in views if view["size"] == small) if small < large else 0
    given = {"size": large, "small_size": small, "small_count": count}
    preset = PRESETS[name]
    try:
        made: list[ViewConfig] = preset(**{key: given[key] for key in given if key in arguments_of(preset)})
    except (ValueError, TypeError):  # of the user's own, with other arguments
        return None
    return made if len(made) == len(views) else None
