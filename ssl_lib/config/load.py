"""One run as data: strict YAML in, frozen dataclasses (`settings`), resolved YAML out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ssl_lib.config.convert import convert
from ssl_lib.config.run_config import Component, EvaluationConfig, RunConfig, TrainerConfig
from ssl_lib.errors import CheckpointError, ConfigError
from ssl_lib.optim.schedules import Schedule
from ssl_lib.utils.yaml import flat, parse_yaml

__all__ = [
    "Component",
    "EvaluationConfig",
    "RunConfig",
    "TrainerConfig",
    "load_config",
    "parse_config",
    "plain",
    "refuse_changes",
    "saved_config",
    "to_yaml",
]

_COMPONENTS = ("data", "backbone", "method", "optimizer")
_PLACES = (
    *("root", "test_root", "bank_root", "path", "labels", "test_path", "test_labels", "urls", "test_urls"),
    *("download", "on_error"),
)
_ABOUT_THE_RUN = (
    *("device", "strategy", "compile", "workers", "log_every", "skip_nonfinite"),
    *("save_every", "save_minutes", "keep", "keep_every", "keep_best"),
)


_SECTIONS: Mapping[str, Any] = {"trainer": TrainerConfig, "schedule": Schedule, "evaluation": EvaluationConfig}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run's YAML file.

    Args:
        path: The file. `imports` that are files are looked for beside it first.
        overrides: `key.subkey=value` texts, the values in YAML.

    Raises:
        ConfigError: The file is missing, is not YAML, or a key or value is wrong; parts are checked by `build`.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        found = "nothing" if values is None else type(values).__name__
        raise ConfigError(f"{path} must hold a mapping of keys to values, such as `seed: 0`; it holds {found}")
    values.setdefault("run_dir", f"runs/{_run_name(path)}")
    return parse_config(values, overrides, path.parent)


def parse_config(values: Mapping[str, Any], overrides: Sequence[str] = (), folder: Path | None = None) -> RunConfig:
    """Checks a run's mapping, as YAML gives it, and applies overrides.

    Args:
        values: Keys and plain values.
        overrides: `key.subkey=value` texts, the values in YAML.
        folder: Where files named in `imports` are looked for first.

    Raises:
        ConfigError: A key or value is wrong.
    """
    values = dict(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"cannot read the override {override!r}: write key=value, such as trainer.batch_size=128")
        _assign(values, key.split("."), parse_yaml(text, f"the value of {key}={text}"), key)
    for key in values:
        for section, kind in _SECTIONS.items():
            if key in {field.name for field in dataclasses.fields(kind)}:
                raise ConfigError(f"unknown key {key!r}. Did you mean '{section}.{key}'?")
    for name in _COMPONENTS:
        if name in values:
            values[name] = _component(values[name], name)
    if isinstance(values.get("evaluation"), Mapping):
        values["evaluation"] = _with_protocols(values["evaluation"])
    if isinstance(loggers := values.get("loggers"), list | tuple):
        values["loggers"] = [_component(logger, f"loggers[{index}]") for index, logger in enumerate(loggers)]
    config: RunConfig = convert(values, RunConfig, "")
    imports = tuple(_locate(entry, folder or Path()) for entry in config.imports)
    return dataclasses.replace(config, run_dir=os.path.expanduser(config.run_dir), imports=imports)


def saved_config(saved: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """The config inside a loaded checkpoint.

    Raises:
        CheckpointError: There is none, or it is not one.
        ConfigError: It cannot be read.
    """
    where = "the config inside the checkpoint"
    if saved.get("config") is None:
        raise CheckpointError(
            "the checkpoint was saved by a script, without a config: build the method there and load into it "
            "ssl_lib.training.checkpoint.load_checkpoint(path)['method']"
        )
    values = parse_yaml(saved["config"], where) if isinstance(saved["config"], str) else None
    if not isinstance(values, dict):
        raise CheckpointError(f"{where} is not a mapping of keys to values: it is damaged or no run's")
    return parse_config(values, overrides)


def refuse_changes(saved: RunConfig, now: RunConfig) -> list[str]:
    """Compares the config that a run was trained with to the one it is to be resumed with.

    Where the run and its data lie, how often it logs, saves and evaluates, its device, its workers, its
    strategy and how many bad updates it skips may change.

    Returns:
        The changes that are taken, such as `trainer.log_every was 20, is 10`.

    Raises:
        CheckpointError: Another key differs; the message lists them with both values.
    """
    harmless = {"run_dir", "evaluation", "loggers", "imports", *(f"data.{name}" for name in _PLACES)}
    harmless |= {f"trainer.{name}" for name in _ABOUT_THE_RUN}
    before, after = flat(plain(saved)), flat(plain(now))
    changed = {
        key: f"{key} was {before.get(key)!r}, is {after.get(key)!r}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    }
    taken = {
        key for key in changed if any(key == name or key.startswith((f"{name}.", f"{name}[")) for name in harmless)
    }
    if refused := [text for key, text in changed.items() if key not in taken]:
        raise CheckpointError(
            f"a run goes on with the config it was started with: {'; '.join(refused)}. It cannot be changed or made "
            f"longer, as its schedule spans all of it; a new run with backbone.weights={now.run_dir} takes this one's "
            "backbone, and begins anew with heads, teachers, optimizer and schedule"
        )
    return [text for key, text in changed.items() if key in taken]


def to_yaml(config: RunConfig) -> str:
    """The resolved config, every default written out, in a form that `load_config` reads back."""
    return yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def plain(value: Any) -> Any:
    """A config, or a part of one, as YAML has it."""
    if isinstance(value, Component):
        return {"name": value.name, **{key: plain(entry) for key, entry in value.arguments.items()}}
    if isinstance(value, EvaluationConfig):
        own = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
        return {**plain(own.pop("protocols")), **own}
    if dataclasses.is_dataclass(value):
        return {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _with_protocols(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gathers the protocols, which in YAML stand beside the other keys; `knn` and `linear` are there unless null."""
    own = {entry.name for entry in dataclasses.fields(EvaluationConfig)} - {"protocols"}
    protocols = {"knn": {}, "linear": {}, **{name: values[name] for name in values if name not in own}}
    return {**{name: values[name] for name in values if name in own}, "protocols": protocols}


def _component(value: Any, key: str) -> Component:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ConfigError(f"{key}: expected a name and arguments, such as {{name: ...}}, got {value!r}")
    return Component(name=value["name"], arguments={name: entry for name, entry in value.items() if name != "name"})


def _assign(values: dict[str, Any], keys: Sequence[str], value: Any, key: str) -> None:
    for name in keys[:-1]:
        below = values.get(name)
        if isinstance(below, str) and keys[0] in _COMPONENTS:
            below = {"name": below}
        if below is not None and not isinstance(below, Mapping):
            raise ConfigError(f"cannot override {key!r}: {name!r} is {below!r}, not a mapping")
        values[name] = dict(below or {})
        values = values[name]
    values[keys[-1]] = value


def _run_name(path: Path) -> str:
    """`fashion_mnist_simclr` for configs/fashion_mnist/simclr.yaml, and the file's own name elsewhere."""
    parts = path.with_suffix("").parts
    below = parts[len(parts) - parts[::-1].index("configs") :] if "configs" in parts else parts[-1:]
    return "_".join(below)


def _locate(entry: str, folder: Path) -> str:
    """An absolute path for a user's own file, beside the config or in the working directory."""
    if entry.endswith(".py"):
        beside = folder / entry
        return os.path.abspath(beside if beside.exists() else entry)
    return entry
