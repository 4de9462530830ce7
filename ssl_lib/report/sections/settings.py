"""Configuration and environment sections: settings that differ from the defaults, and software versions."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_lib.config.convert import REQUIRED, arguments_of
from ssl_lib.config.lineage import differences
from ssl_lib.config.load import plain, trainer_arguments
from ssl_lib.config.resolve import DERIVED
from ssl_lib.config.run_config import EvaluationConfig
from ssl_lib.errors import ConfigError
from ssl_lib.optim import Schedule
from ssl_lib.registry import BACKBONES, DATASETS, METHODS, OPTIMIZERS, PRESETS, PROTOCOLS, Registry
from ssl_lib.report.records import Missing, Run
from ssl_lib.utils.yaml import flat
from ssl_lib.views import ViewConfig

__all__ = ["defaults_of", "environment", "recipe_source", "settings"]

_NONE = "-"
_COMPONENTS = {"data": DATASETS, "backbone": BACKBONES, "method": METHODS, "optimizer": OPTIMIZERS}


def settings(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns per run all settings with their defaults, and the settings that differ or that only some runs have."""
    configs = {run.name: run.config for run in runs if not isinstance(run.config, Missing)}
    values = [_settings(config) for config in configs.values()]
    keys = dict.fromkeys(key for each in values for key in each)
    texts = {key: [_text(each[key]) if key in each else _NONE for each in values] for key in keys}
    common = {key for key in texts if all(key in each for each in values)}
    return {
        "panels": [{"run": name, **_panel(config)} for name, config in configs.items()],
        "different": [(k, row) for k, row in texts.items() if k in common - {"run_dir"} and len(set(row)) > 1],
        "partial": [(key, row) for key, row in texts.items() if key not in common],
    }


def environment(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns software versions, device, seed and git commit of each run."""
    columns = []
    for run in runs:
        seed = None if isinstance(run.config, Missing) else run.config.get("seed")
        commit = {"commit": "none (the working directory was not a git repository)"}
        known = {} if isinstance(run.environment, Missing) else {**commit, **run.environment}
        columns.append({**known, "seed": seed, "folder": str(run.folder)})
    keys = dict.fromkeys(key for values in columns for key in values)
    texts = [[_NONE if values.get(key) is None else _text(values[key]) for values in columns] for key in keys]
    return {"rows": list(zip(keys, texts, strict=True))}


def _panel(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns key, value and default of each setting; a default that is missing or equals the value is None."""
    defaults = {key: _text(value) for key, value in defaults_of(config).items()}
    texts = {key: _text(value) for key, value in _settings(config).items()}
    rows = [(key, text, defaults[key] if defaults.get(key, text) != text else None) for key, text in texts.items()]
    missing = len(texts.keys() - defaults.keys())
    return {"source": recipe_source(config), "lineage": _lineage(config), "rows": rows, "without_default": missing}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings by full key, without the source that a recipe cites."""
    return flat({key: value for key, value in config.items() if key != "source"})


def _lineage(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the source that a recipe cites, and rows with name, value, value in the source and reason."""
    source = config.get("source")
    if not isinstance(source, Mapping):
        return {}
    rows = [
        (found.key, *(map(_text, (found.value, found.source)) if found.setting else (_NONE, _NONE)), found.reason)
        for found in differences(config)
    ]
    return {"of": source.get("of"), "result": source.get("result"), "rows": rows}


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
    named = ((registry, _name(config, key)) for key, registry in (("method", METHODS), ("optimizer", OPTIMIZERS)))
    sections = {
        "seed": 0,
        "trainer": {key: entry.default for key, entry in trainer_arguments().items()},
        "schedule": Schedule().scaled_for(*(registry[name] for registry, name in named if name in registry)),
        "evaluation": EvaluationConfig(),
    }
    defaults: dict[str, Any] = flat(plain(sections))
    for key, registry in _COMPONENTS.items():
        defaults |= _component_defaults(registry, _name(config, key), key)
    for name in PROTOCOLS:
        defaults |= _component_defaults(PROTOCOLS, name, f"evaluation.{name}")
    return defaults | _view_defaults(_name(config, "method"), config.get("views"))


def _name(config: Mapping[str, Any], section: str) -> str:
    return str(flat(config).get(f"{section}.name"))


def recipe_source(config: Mapping[str, Any]) -> str:
    """Returns the paper and repository in a method's docstring, such as `Chen et al. 2020, arXiv:2002.05709`."""
    name = _name(config, "method")
    summary = (inspect.getdoc(METHODS[name]) or "").split("\n\n")[0] if name in METHODS else ""
    match = re.search(r"\((.*)\)", summary, flags=re.S)
    return " ".join(match[1].split()) if match else ""


def _component_defaults(registry: Registry, name: str, key: str) -> dict[str, Any]:
    try:
        allowed = arguments_of(registry[name])
    except (ConfigError, ValueError, TypeError):  # a user's own component that is not imported here
        return {}
    derived = DERIVED.get(registry, ())
    return {
        f"{key}.{k}": plain(a.default) for k, a in allowed.items() if a.default is not REQUIRED and k not in derived
    }


def _view_defaults(method: str, views: Any) -> dict[str, Any]:
    """Returns the view defaults, without sizes, from the preset named like the method, else from `ViewConfig`."""
    count = len(views) if isinstance(views, list) else 0
    try:
        preset = PRESETS[method]()[:count]
    except (ValueError, TypeError):  # no preset, or a user's own without defaults
        preset = []
    defaults = preset if len(preset) == count else [ViewConfig()] * count
    return {key: value for key, value in flat(plain(defaults), "views").items() if not key.endswith(".size")}
