"""ssl_lib: self-supervised learning on images, in plain parts that one Trainer composes.

A name is imported when it is first asked for: `import ssl_lib` is quick, though torch takes seconds.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what _HOMES says, for type checkers and editors
    from ssl_lib import backbones, data, embedding, evaluation, heads, losses, methods, optim, views
    from ssl_lib.build import Experiment, build
    from ssl_lib.config import RunConfig, load_config
    from ssl_lib.data import Loader
    from ssl_lib.ema import EMATeacher
    from ssl_lib.errors import CheckpointError, ConfigError, DataError, NonFiniteLossError, SSLError
    from ssl_lib.evaluation import Evaluator
    from ssl_lib.methods import BYOL, DINO, BarlowTwins, Method, SimCLR, SimSiam, VICReg
    from ssl_lib.optim import LARS, Schedule
    from ssl_lib.registry import BACKBONES, DATASETS, LOGGERS, LOSSES, METHODS, OPTIMIZERS, PRESETS, PROTOCOLS
    from ssl_lib.runs import TrainedRun, load_method, load_run
    from ssl_lib.trained_backbone import Backbone
    from ssl_lib.trainer import Trainer
    from ssl_lib.types import Progress, StepOutput, Views
    from ssl_lib.views import ViewConfig, ViewPipeline

__all__ = [
    "BACKBONES",
    "BYOL",
    "DATASETS",
    "DINO",
    "LARS",
    "LOGGERS",
    "LOSSES",
    "METHODS",
    "OPTIMIZERS",
    "PRESETS",
    "PROTOCOLS",
    "Backbone",
    "BarlowTwins",
    "CheckpointError",
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
    "TrainedRun",
    "Trainer",
    "VICReg",
    "ViewConfig",
    "ViewPipeline",
    "Views",
    "backbones",
    "build",
    "data",
    "embedding",
    "evaluation",
    "heads",
    "load_config",
    "load_method",
    "load_run",
    "losses",
    "methods",
    "optim",
    "views",
]

_HOMES = {
    "build": ("Experiment", "build"),
    "config": ("RunConfig", "load_config"),
    "data": ("Loader",),
    "ema": ("EMATeacher",),
    "errors": ("CheckpointError", "ConfigError", "DataError", "NonFiniteLossError", "SSLError"),
    "evaluation": ("Evaluator",),
    "methods": ("BYOL", "DINO", "BarlowTwins", "Method", "SimCLR", "SimSiam", "VICReg"),
    "optim": ("LARS", "Schedule"),
    "registry": ("BACKBONES", "DATASETS", "LOGGERS", "LOSSES", "METHODS", "OPTIMIZERS", "PRESETS", "PROTOCOLS"),
    "runs": ("TrainedRun", "load_method", "load_run"),
    "trained_backbone": ("Backbone",),
    "trainer": ("Trainer",),
    "types": ("Progress", "StepOutput", "Views"),
    "views": ("ViewConfig", "ViewPipeline"),
}
"""Where each public name is defined; all other names are those of modules."""


_LIGHT = {"errors", "registry"}
"""Of the homes, those that do without torch."""


def import_whole() -> None:
    """Imports what imports everything, so that threads that ask first for different parts wait for one another.

    In a cycle of imports begun at two ends, Python hands modules out that are made in part only.
    """
    importlib.import_module(f"{__name__}.build")


class _Package(ModuleType):
    """A package that imports what it is asked for."""

    def __getattr__(self, name: str) -> Any:
        home = next((home for home, names in _HOMES.items() if name in names), None)
        if home is None and not (name.isidentifier() and find_spec(f"{__name__}.{name}")):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if (home or name) not in _LIGHT:
            import_whole()
        module = importlib.import_module(f"{__name__}.{home or name}")
        if home is not None:
            setattr(self, name, getattr(module, name))
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Python binds an imported module to its package; `ssl_lib.build` is the function, not the module around it."""
        if not (name == "build" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
