"""ssl_lib: self-supervised learning on images, in plain parts that one Trainer composes.

Names are imported when they are first used, so that `import ssl_lib` is fast although torch takes seconds. Type
checkers and editors read the same names from `__init__.pyi`.
"""

from __future__ import annotations

from typing import Any

from ssl_lib.registry import import_lazily
from ssl_lib.version import __version__ as __version__

_PACKAGES = ("backbones", "data", "embedding", "evaluation", "heads", "losses", "methods", "optim", "views")

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
"""The public names by the module that defines them."""

__all__ = sorted([*_PACKAGES, *(name for names in _MODULES.values() for name in names)])


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), None)
    value = import_lazily(f"ssl_lib.{module or name}")
    globals()[name] = value if module is None else getattr(value, name)  # from now on found without this function
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
