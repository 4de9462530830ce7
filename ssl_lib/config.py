"""One run as data: strict YAML in, frozen dataclasses, resolved YAML out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ssl_lib.data.loader import check_divisible
from ssl_lib.errors import CheckpointError, ConfigError
from ssl_lib.optim.schedules import Schedule
from ssl_lib.plain_yaml import flat, parse_yaml
from ssl_lib.schema import convert

__all__ = [
    "Component",
    "EvaluationConfig",
    "RunConfig",
    "TrainerConfig",
    "load_config",
    "parse_config",
    "refuse_changes",
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


@dataclass(frozen=True, kw_only=True)
class Component:
    """A part by its registered name, with constructor arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """The loop.

    Attributes:
        batch_size: Images per optimizer update, over all micro-batches.
        precision: `auto` is bf16 where the hardware has it, else fp32.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        strategy: Of several processes, each holds the whole method (`ddp`) or a share of it (`fsdp2`).
        compile: Run the backbones, and on CUDA the views' colours, through torch.compile.
        accumulate: Micro-batches per update.
        exact: The gradient of the whole batch also where the loss compares its images: only the backbone, which must
            have no batch normalisation, goes through the micro-batches.
        clip_norm: Largest gradient norm; null clips nothing.
        clip_per_parameter: Clip each parameter's gradient by itself (DINO) instead of the norm over all.
        log_every: Updates between lines of metrics.jsonl.
        skip_nonfinite: Updates in a row that are skipped for a NaN or infinite loss or gradient before the run stops.
        save_every: Epochs between saves of checkpoints/last.pt.
        save_minutes: Minutes after which to save within an epoch, too; null saves at the ends of epochs only.
        keep: Number of last saves that are left, so that there is one to fall back to.
        keep_every: Epochs between checkpoints that are kept for good; null keeps none.
        keep_best: Keep the checkpoint of the best evaluation as best.pt, by kNN accuracy or else linear.
        workers: Processes that decode images; null chooses. In-memory data need none.
        drop_last: Leave out an epoch's last images where they fill no batch; others come in the next epochs.
    """

    batch_size: int = 256
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    strategy: Literal["ddp", "fsdp2"] = "ddp"
    compile: bool = False
    accumulate: int = 1
    exact: bool = False
    clip_norm: float | None = None
    clip_per_parameter: bool = False
    log_every: int = 20
    skip_nonfinite: int = 0
    save_every: int = 1
    save_minutes: float | None = 10.0
    keep: int = 2
    keep_every: int | None = None
    keep_best: bool = False
    workers: int | None = None
    drop_last: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "log_every", "save_every", "keep", "keep_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("workers", "skip_nonfinite"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if self.save_minutes is not None and not self.save_minutes > 0:
            raise ValueError(f"save_minutes must be above 0, got {self.save_minutes}; null saves at epochs' ends only")
        check_divisible(self.batch_size, self.accumulate, processes=1)
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, got {self.clip_norm}; null clips nothing")
        if self.clip_per_parameter and self.clip_norm is None:
            raise ValueError("clip_per_parameter needs a clip_norm, the largest norm of a parameter's gradient")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured in training and by `ssl-lib evaluate`.

    Attributes:
        every_epochs: Epochs between evaluations, the last epoch always included; 0 switches evaluation off.
        image_size: Side of the images shown to the frozen backbone; null takes the size of the large views.
        online_images: Training and test images to take before the last epoch, always the same; null takes all.
        protocols: Arguments by the protocols' names; in YAML they stand beside the keys above. null leaves one out.
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


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything about a run. `views` is a preset's mapping or a list of mappings, one per `ViewConfig`."""

    data: Component
    backbone: Component
    method: Component
    optimizer: Component
    views: Mapping[str, Any] | list[Any]
    seed: int = 0
    schedule: Schedule = field(default_factory=Schedule)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    loggers: tuple[Component, ...] = ()
    run_dir: str = "runs/run"
    imports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in [0, 2**32), got {self.seed}")


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
    before, after = flat(_plain(saved)), flat(_plain(now))
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
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return {"name": value.name, **{key: _plain(entry) for key, entry in value.arguments.items()}}
    if isinstance(value, EvaluationConfig):
        plain = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
        return {**_plain(plain.pop("protocols")), **plain}
    if dataclasses.is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


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
