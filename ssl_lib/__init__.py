"""ssl_lib: self-supervised learning on images, in plain parts that one Trainer composes."""

__version__ = "0.1.0"

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
