"""Observers of a run."""

from ssl_lib.callbacks.base import Callback
from ssl_lib.callbacks.checkpoints import Checkpoints
from ssl_lib.callbacks.config_file import ConfigFile
from ssl_lib.callbacks.defaults import default_callbacks
from ssl_lib.callbacks.diagnosis import Diagnosis
from ssl_lib.callbacks.evaluation import Evaluation
from ssl_lib.callbacks.metrics_log import MetricsLog
from ssl_lib.callbacks.nonfinite import NonFiniteReport
from ssl_lib.callbacks.progress_bar import ProgressBar

__all__ = [
    "Callback",
    "Checkpoints",
    "ConfigFile",
    "Diagnosis",
    "Evaluation",
    "MetricsLog",
    "NonFiniteReport",
    "ProgressBar",
    "default_callbacks",
]
