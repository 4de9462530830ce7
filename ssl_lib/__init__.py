"""ssl_lib: self-supervised learning on images, in plain parts that one Trainer composes.

Names are imported when they are first used, so that `import ssl_lib` is fast although torch takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssl_lib.utils.lazy import import_lazily
from ssl_lib.version import __version__ as __version__

if TYPE_CHECKING:  # the same names as in _MODULES, for type checkers and editors
    from ssl_lib import backbones, data, embedding, evaluation, heads, losses, methods, optim, views
    from ssl_lib.config import RunConfig, load_config
    from ssl_lib.data import Loader
    from ssl_lib.distributed import started, stop_on_signals
    from ssl_lib.ema import EMATeacher
    from ssl_lib.errors import CheckpointError, ConfigError, DataError, NonFiniteLossError, SSLError
    from ssl_lib.evaluation import Evaluator
    from ssl_lib.experiment.build import Experiment, build
    from ssl_lib.experiment.load import TrainedRun, load_method, load_run
    from ssl_lib.experiment.trained_backbone import TrainedBackbone
    from ssl_lib.methods import BYOL, DINO, BarlowTwins, Method, SimCLR, SimSiam, VICReg
    from ssl_lib.optim import LARS, Schedule
    from ssl_lib.registry import BACKBONES, DATASETS, LOGGERS, METHODS, OPTIMIZERS, PRESETS, PROTOCOLS
    from ssl_lib.report import write_report
    from ssl_lib.runs.files import list_checkpoints
    from ssl_lib.training.callbacks import Callback, Checkpoints, default_callbacks
    from ssl_lib.training.checkpoint import load_checkpoint
    from ssl_lib.training.checkpoint_folder import find_checkpoint
    from ssl_lib.training.trainer import Trainer
    from ssl_lib.types import Progress, StepOutput, Views
    from ssl_lib.utils.seeding import seed_everything
    from ssl_lib.views import ViewConfig, ViewPipeline

__all__ = [
    "BACKBONES",
    "BYOL",
    "DATASETS",
    "DINO",
    "LARS",
    "LOGGERS",
    "METHODS",
    "OPTIMIZERS",
    "PRESETS",
    "PROTOCOLS",
    "BarlowTwins",
    "Callback",
    "CheckpointError",
    "Checkpoints",
    "ConfigError",
    "DataError",
    "EMATeacher",
    "Evaluator",
    "Experiment",
    "Loader",
    "Method",
    "NonFiniteLossError",
    "Progress",
    "RunConfig",
    "SSLError",
    "Schedule",
    "SimCLR",
    "SimSiam",
    "StepOutput",
    "TrainedBackbone",
    "TrainedRun",
    "Trainer",
    "VICReg",
    "ViewConfig",
    "ViewPipeline",
    "Views",
    "backbones",
    "build",
    "data",
    "default_callbacks",
    "embedding",
    "evaluation",
    "find_checkpoint",
    "heads",
    "list_checkpoints",
    "load_checkpoint",
    "load_config",
    "load_method",
    "load_run",
    "losses",
    "methods",
    "optim",
    "seed_everything",
    "started",
    "stop_on_signals",
    "views",
    "write_report",
]

_MODULES = {
    "config": ("RunConfig", "load_config"),
    "data": ("Loader",),
    "distributed": ("started", "stop_on_signals"),
    "ema": ("EMATeacher",),
    "errors": ("CheckpointError", "ConfigError", "DataError", "NonFiniteLossError", "SSLError"),
    "evaluation": ("Evaluator",),
    "experiment.build": ("Experiment", "build"),
    "experiment.load": ("TrainedRun", "load_method", "load_run"),
    "experiment.trained_backbone": ("TrainedBackbone",),
    "methods": ("BYOL", "DINO", "BarlowTwins", "Method", "SimCLR", "SimSiam", "VICReg"),
    "optim": ("LARS", "Schedule"),
    "registry": ("BACKBONES", "DATASETS", "LOGGERS", "METHODS", "OPTIMIZERS", "PRESETS", "PROTOCOLS"),
    "report": ("write_report",),
    "runs.files": ("list_checkpoints",),
    "training.callbacks": ("Callback", "Checkpoints", "default_callbacks"),
    "training.checkpoint": ("load_checkpoint",),
    "training.checkpoint_folder": ("find_checkpoint",),
    "training.trainer": ("Trainer",),
    "types": ("Progress", "StepOutput", "Views"),
    "utils.seeding": ("seed_everything",),
    "views": ("ViewConfig", "ViewPipeline"),
}
"""The module that defines each public name; the other names in `__all__` are packages."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), None)
    value = import_lazily(f"ssl_lib.{module or name}")
    globals()[name] = value if module is None else getattr(value, name)  # from now on found without this function
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
