"""Loads a run's config: strict YAML in, frozen dataclasses (`run_config`), resolved YAML out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any

from ssl_lib.config.convert import arguments_of, check_arguments, convert
from ssl_lib.config.run_config import EVALUATION_KEYS, Component, EvaluationConfig, RunConfig, as_component
from ssl_lib.errors import CheckpointError, ConfigError, did_you_mean
from ssl_lib.optim.schedules import Schedule
from ssl_lib.registry import BACKBONES, DATASETS, METHODS, OPTIMIZERS, PRESETS, PROTOCOLS, TRAINER, Registry
from ssl_lib.utils.yaml import brief, dump_yaml, flat, parse_yaml
from ssl_lib.views import ViewConfig

__all__ = ["load_config", "parse_config", "plain", "refuse_changes", "saved_config", "to_yaml", "trainer_arguments"]

_COMPONENTS: Mapping[str, Registry] = {
    "data": DATASETS,
    "backbone": BACKBONES,
    "method": METHODS,
    "optimizer": OPTIMIZERS,
}
_OF_PLACES = {
    *("root", "test_root", "bank_root", "path", "labels", "test_path", "test_labels", "urls", "test_urls"),
    *("download", "on_error"),
}
"""Arguments of data sets that say where the images are, not which they are."""

_OF_THE_PROCESS = {
    *("device", "strategy", "compile", "workers", "log_every", "skip_nonfinite", "debug_nonfinite"),
    *("save_every", "save_minutes", "keep", "keep_every", "keep_best"),
}
"""Keys of `trainer` that do not change what is trained."""

_GIVEN = ("run_dir", "callbacks", "folder", "config", "preprocessing", "data", "views", "seed", "indices")
"""Arguments of Trainer, Checkpoints and Loader that `build` passes; the others are the keys of `trainer`."""


def load_config(path: str | Path, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """Reads a run's YAML file.

    Args:
        path: The file. `imports` that are files are looked for in its folder first.
        changes: Values by full key, such as `{"method.temperature": 0.2}`.

    Raises:
        ConfigError: The file is missing or is not YAML, or a key or value is wrong. Components are checked by `build`.
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
    return parse_config(values, changes, path.parent)


def parse_config(
    values: Mapping[str, Any], changes: Mapping[str, Any] | None = None, folder: Path | None = None
) -> RunConfig:
    """Checks a run's mapping, as YAML gives it.

    Args:
        values: Keys and plain values.
        changes: Values by full key, such as `{"method.temperature": 0.2}`.
        folder: Folder in which files named in `imports` are looked for first.

    Raises:
        ConfigError: A key or value is wrong.
    """
    values = dict(values)
    for key, value in (changes or {}).items():
        _assign(values, key.split("."), value, key)
    for name in _COMPONENTS:
        if name in values:
            values[name] = as_component(values[name], name)
    _check_keys(values)
    if isinstance(values.get("evaluation"), Mapping):
        values["evaluation"] = _with_protocols(values["evaluation"])
    if isinstance(loggers := values.get("loggers"), list | tuple):
        values["loggers"] = [as_component(logger, f"loggers[{index}]") for index, logger in enumerate(loggers)]
    settings = convert(values.get("trainer", {}), Mapping[str, Any], "trainer")
    values["trainer"] = check_arguments(settings, trainer_arguments(), "trainer")
    config: RunConfig = convert(values, RunConfig, "")
    imports = tuple(_locate(entry, folder or Path()) for entry in config.imports)
    return dataclasses.replace(config, run_dir=os.path.expanduser(config.run_dir), imports=imports)


def saved_config(saved: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> RunConfig:
    """The config inside a loaded checkpoint.

    Raises:
        CheckpointError: The checkpoint holds no config, or the config is damaged.
        ConfigError: A key or value is wrong.
    """
    where = "the config inside the checkpoint"
    if saved.get("config") is None:
        raise CheckpointError(
            "the checkpoint was saved by a script, without a config: build the method in the script, and load "
            "ssl_lib.load_checkpoint(path)['method'] into it"
        )
    values = parse_yaml(saved["config"], where) if isinstance(saved["config"], str) else None
    if not isinstance(values, dict):
        raise CheckpointError(f"{where} is not a mapping of keys to values: it is damaged")
    return parse_config(values, changes)


def refuse_changes(saved: RunConfig, now: RunConfig) -> list[str]:
    """Compares the config that a run was trained with to the config with which it is resumed.

    The folders of the run and of its data, the intervals of logging, saving and evaluation, device, workers, strategy
    and the handling of NaN may change; so may the length of the run, if `now` has the restart of `Schedule.resumed`.

    Returns:
        The accepted changes, such as `trainer.log_every was 20, is 10`.

    Raises:
        CheckpointError: Another key differs; the message lists all of them with both values.
    """
    harmless = {"run_dir", "evaluation", "loggers", "imports", "source", *(f"data.{name}" for name in _OF_PLACES)}
    harmless |= {f"trainer.{name}" for name in _OF_THE_PROCESS}
    longer = now.schedule.epochs > saved.schedule.epochs
    if longer and now.schedule.continues(saved.schedule.epochs, saved.schedule.restarts):
        harmless |= {"schedule.epochs", "schedule.restart_lr"}
        schedule = dataclasses.replace(now.schedule, restarts=saved.schedule.restarts)  # without those to come
        now = dataclasses.replace(now, schedule=schedule)
    before, after = flat(plain(saved)), flat(plain(now))
    changed = {
        key: f"{key} was {brief(before.get(key))}, is {brief(after.get(key))}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    }
    taken = [key for key in changed if any(key == k or key.startswith((f"{k}.", f"{k}[")) for k in harmless)]
    if refused := [text for key, text in changed.items() if key not in taken]:
        length = " Raising schedule.epochs makes a run longer after it is finished, not before." if longer else ""
        raise CheckpointError(
            f"a run must be resumed with its original config: {'; '.join(refused)}. Its training cannot be changed."
            f"{length} Start a new run with backbone.weights={now.run_dir} to use this run's backbone; heads, "
            "teachers, optimizer and schedule start again"
        )
    return [changed[key] for key in taken]


def to_yaml(config: RunConfig) -> str:
    """Formats a resolved config, with all defaults, as YAML that `load_config` reads."""
    return dump_yaml(plain(config))


def plain(value: Any) -> Any:
    """A config, or a part of one, as plain values."""
    if isinstance(value, Component):
        return {"name": value.name, **{key: plain(entry) for key, entry in value.arguments.items()}}
    if dataclasses.is_dataclass(value):
        own = {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
        return {**own.pop("protocols"), **own} if isinstance(value, EvaluationConfig) else own
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def trainer_arguments() -> dict[str, Parameter]:
    """The keys of `trainer`: the arguments of Trainer, Checkpoints and Loader that a config may set."""
    return {name: entry for part in TRAINER for name, entry in arguments_of(TRAINER[part], _GIVEN).items()}


def _check_keys(values: Mapping[str, Any]) -> None:
    """Refuses unknown sections; for `lr` or `epochs` the message names the full key."""
    known = arguments_of(RunConfig)
    for key in values:
        if key not in known:
            full = _full_keys(str(key), values)
            hint = f" Did you mean {' or '.join(map(repr, full))}?" if full else did_you_mean(str(key), known)
            raise ConfigError(f"unknown key {brief(key)}.{hint}")


def _full_keys(name: str, values: Mapping[str, Any]) -> list[str]:
    """The full keys that end with a name, in the sections and in the components that the config names."""
    sections: dict[str, Collection[str]] = {
        "schedule": arguments_of(Schedule),
        "trainer": trainer_arguments(),
        "evaluation": EVALUATION_KEYS,
    }
    for key, registry in _COMPONENTS.items():
        if key in values and values[key].name in registry:
            sections[key] = arguments_of(registry[values[key].name])
    if isinstance(views := values.get("views"), Mapping):
        preset = views.get("preset")
        own = arguments_of(PRESETS[preset]) if isinstance(preset, str) and preset in PRESETS else {}
        sections["views"] = {**own, **arguments_of(ViewConfig)}
    if isinstance(evaluation := values.get("evaluation"), Mapping):
        protocols = [name for name in evaluation if name in PROTOCOLS]
        sections |= {f"evaluation.{name}": arguments_of(PROTOCOLS[name]) for name in protocols}
    return [f"{section}.{name}" for section, names in sections.items() if name in names]


def _with_protocols(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gathers the protocols, which in YAML are keys next to the others; `knn` and `linear` are on unless null."""
    own = {name: value for name, value in values.items() if name in EVALUATION_KEYS}
    others = {name: value for name, value in values.items() if name not in own}
    return {**own, "protocols": {"knn": {}, "linear": {}, **others}}


def _assign(values: dict[str, Any], keys: Sequence[str], value: Any, key: str) -> None:
    for name in keys[:-1]:
        below = values.get(name)
        if isinstance(below, str) and keys[0] in _COMPONENTS:
            below = {"name": below}
        if below is not None and not isinstance(below, Mapping):
            raise ConfigError(f"cannot set {key!r}: {name!r} is {brief(below)}, not a mapping")
        values[name] = dict(below or {})
        values = values[name]
    values[keys[-1]] = value


def _run_name(path: Path) -> str:
    """`fashion_mnist_simclr` for configs/fashion_mnist/simclr.yaml; the file's own name elsewhere."""
    parts = path.with_suffix("").parts
    below = parts[len(parts) - parts[::-1].index("configs") :] if "configs" in parts else parts[-1:]
    return "_".join(below)


def _locate(entry: str, folder: Path) -> str:
    """The absolute path of a user's file, in the config's folder or in the working directory."""
    if entry.endswith(".py"):
        own = folder / entry
        return os.path.abspath(own if own.exists() else entry)
    return entry
