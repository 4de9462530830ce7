"""What can be set about a run, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ssl_lib.data.loader import check_divisible
from ssl_lib.optim.schedules import Schedule

__all__ = ["Component", "EvaluationConfig", "RunConfig", "TrainerConfig"]


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
        compile: Run the backbones, and on CUDA the views' colors, through torch.compile.
        accumulate: Micro-batches per update.
        exact: The gradient of the whole batch also where the loss compares its images: only the backbone, which must
            have no batch normalization, goes through the micro-batches.
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
