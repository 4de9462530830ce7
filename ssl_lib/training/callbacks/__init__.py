"""Callbacks that observe a training run; loggers are also registered in `LOGGERS`."""

from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.callbacks.checkpoints import Checkpoints
from ssl_lib.training.callbacks.defaults import default_callbacks
from ssl_lib.training.callbacks.diagnosis import Diagnosis
from ssl_lib.training.callbacks.evaluation import Evaluation
from ssl_lib.training.callbacks.metrics_log import MetricsLog
from ssl_lib.training.callbacks.nonfinite import NonFiniteReport
from ssl_lib.training.callbacks.progress_bar import ProgressBar
from ssl_lib.training.callbacks.run_info import ConfigFile, EnvironmentFile
from ssl_lib.training.callbacks.tensorboard import TensorBoardLog
from ssl_lib.training.callbacks.wandb import WandbLog

__all__ = [
    "Callback",
    "Checkpoints",
    "ConfigFile",
    "Diagnosis",
    "EnvironmentFile",
    "Evaluation",
    "MetricsLog",
    "NonFiniteReport",
    "ProgressBar",
    "TensorBoardLog",
    "WandbLog",
    "default_callbacks",
]
