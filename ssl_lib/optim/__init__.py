"""Optimizers, parameter groups, learning rate schedules and gradient clipping."""

from __future__ import annotations

from ssl_lib.optim.clip import clip_grad_per_parameter
from ssl_lib.optim.curves import cosine_schedule, ramp
from ssl_lib.optim.lars import LARS
from ssl_lib.optim.param_groups import layer_decay_groups, param_groups
from ssl_lib.optim.schedules import Schedule
from ssl_lib.optim.torch_optimizers import adamw, sgd

__all__ = [
    "LARS",
    "Schedule",
    "adamw",
    "clip_grad_per_parameter",
    "cosine_schedule",
    "layer_decay_groups",
    "param_groups",
    "ramp",
    "sgd",
]
