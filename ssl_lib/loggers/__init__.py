"""Where else a run's scalars go, by name in `LOGGERS`: callbacks that take the run's folder."""

from ssl_lib.loggers.tensorboard import TensorBoardLog
from ssl_lib.loggers.wandb import WandbLog

__all__ = ["TensorBoardLog", "WandbLog"]
