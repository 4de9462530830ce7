"""Configuration and environment sections: settings that differ from the defaults, and software versions."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_lib.config.convert import REQUIRED, arguments_of
from ssl_lib.config.load import plain, trainer_arguments
from ssl_lib.config.resolve import DERIVED
from ssl_lib.config.run_config import EvaluationConfig
from ssl_lib.errors import ConfigError
from ssl_lib.optim import Schedule
from ssl_lib.registry import BACKBONES, DATASETS, METHODS, OPTIMIZERS, PRESETS, PROTOCOLS, Registry
from ssl_lib.report.records import Missing, Run
from ssl_lib.utils.yaml import flat
from ssl_lib.views import ViewConfig

__all__ = ["defaults_of", "environment", "part_name", "recipe_source", "settings"]

_NONE = "-"
_COMPONENTS = {"data": DATASETS, "backbone": BACKBONES, "method": METHODS, "optimizer": OPTIMIZERS}


def settings(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns per run all settings with their defaults, and the settings that differ between runs."""
    configs = {run.name: run.config for run in runs if not isinstance(run.config, Missing)}
    panels = [{"run": name, **_panel(config)} for name, config in configs.items()]
    return {"panels": panels, **_differences([flat(config) for config in configs.values()])}


def environment(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns software versions, device, seed and git commit of each run."""
    columns: list[dict[str, Any]] = []
    for run in runs:
        seed = None if isinstance(run.config, Missing) else run.config.get("seed")
        commit = {"commit": "none (the working directory was not a git repository)"}
        known = {} if isinstance(run.environment, Missing) else commit | dict(run.environment)
        columns.append(known | {"seed": seed, "folder": str(run.folder)})
    keys = dict.fromkeys(key for values in columns for key in values)
    texts = [[_NONE if values.get(key) is None else _text(values[key]) for values in columns] for key in keys]
    return {"rows": list(zip(keys, texts, strict=True))}


def _panel(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns key, value and default of each setting; a default that is missing or equals the value is None."""
    defaults = {key: _text(value) for key, value in defaults_of(config).items()}
    texts = {key: _text(value) for key, value in flat(config).items()}
    rows = [(key, text, defaults[key] if defaults.get(key, text) != text else None) for key, text in texts.items()]
    return {"source": recipe_source(config), "rows": rows, "without_default": len(texts.keys() - defaults.keys())}


def _differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[str, list[str]]]]:
    """Returns the settings that differ between runs, and the settings that only some runs have."""
    different, partial = list[tuple[str, list[str]]](), list[tuple[str, list[str]]]()
    for key in dict.fromkeys(key for values in configs for key in values):
        texts = [_text(values[key]) if key in values else _NONE for values in configs]
        if not all(key in values for values in configs):
            partial.append((key, texts))
        elif len(set(texts)) > 1 and key != "run_dir":
            different.append((key, texts))
    return {"different": different, "partial": partial}


def _text(value: Any) -> str:
    """Formats a value as in YAML; equal numbers look the same whether they are int or float."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return json.dumps(value, default=str, ensure_ascii=False)


def defaults_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns defaults of a config's components by dotted key; a setting without a default is missing."""
    defaults: dict[str, Any] = {}
    for key, registry in _COMPONENTS.items():
        defaults |= _of_component(config.get(key), registry, key)
    sections = {
        "trainer": {key: entry.default for key, entry in trainer_arguments().items()},
        "schedule": Schedule(),
        "evaluation": EvaluationConfig(),
    }
    defaults |= flat(plain(sections))
    evaluation = config.get("evaluation")
    for name in PROTOCOLS:
        if isinstance(evaluation, Mapping) and isinstance(evaluation.get(name), Mapping):
            defaults |= _of_component({**evaluation[name], "name": name}, PROTOCOLS, f"evaluation.{name}")
    return defaults | _views(config) | {"seed": 0}


def part_name(component: Any) -> str:
    """Returns the name of a config's component, given as a mapping or by name alone; empty if there is none."""
    name = component.get("name") if isinstance(component, Mapping) else component
    return name if isinstance(name, str) else ""


def recipe_source(config: Mapping[str, Any]) -> str:
    """Returns the paper and repository in a method's docstring, such as `Chen et al. 2020, arXiv:2002.05709`."""
    name = part_name(config.get("method"))
    if name not in METHODS:
        return ""
    summary = (inspect.getdoc(METHODS[name]) or "").split("\n\n")[0]
    match = re.search(r"\((.*)\)", summary, flags=re.S)
    return " ".join(match[1].split()) if match else ""


def _of_component(component: Any, registry: Registry, key: str) -> dict[str, Any]:
    try:
        allowed = arguments_of(registry[part_name(component)])
    except (ConfigError, ValueError, TypeError):  # a user's own component that is not imported here
        return {}
    return {
        f"{key}.{k}": plain(a.default) for k, a in allowed.items() if a.default is not REQUIRED and k not in DERIVED
    }


def _views(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the view defaults, without sizes, from the preset named like the method, else from `ViewConfig`."""
    views = config.get("views")
    if not isinstance(views, list) or not views or not all(isinstance(view, Mapping) for view in views):
        return {}
    configs = _preset(part_name(config.get("method")), views) or [ViewConfig()] * len(views)
    defaults = flat([plain(view) for view in configs], "views")
    return {key: value for key, value in defaults.items() if not key.endswith(".size")}


def _preset(name: str, views: list[Mapping[str, Any]]) -> list[ViewConfig] | None:
    """Returns the views of a preset with these sizes and this count, or None if the preset cannot make them."""
    sizes: list[Any] = [view.get("size") for view in views]
    if name not in PRESETS or not all(isinstance(size, int) for size in sizes):
        return None
    large, small = max(sizes), min(sizes)
    count = sum(view.get("count", 1) for view in views if view["size"] == small) if small < large else 0
    given = {"size": large, "small_size": small, "small_count": count}
    preset = PRESETS[name]
    try:
        configs: list[ViewConfig] = preset(**{key: given[key] for key in given if key in arguments_of(preset)})
    except (ValueError, TypeError):  # a user's own preset with other arguments
        return None
    return configs if len(configs) == len(views) else None
