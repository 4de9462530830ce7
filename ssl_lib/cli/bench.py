"""`ssl-lib bench`: measures where the time of a training step goes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import time

from ssl_lib.cli.common import counted
from ssl_lib.cli.named_config import load_named
from ssl_lib.config.run_config import EvaluationConfig
from ssl_lib.errors import ConfigError
from ssl_lib.experiment.build import build
from ssl_lib.training.callbacks import Callback
from ssl_lib.training.state import TrainState
from ssl_lib.utils.seeding import seed_everything
from ssl_lib.utils.stopwatch import Stopwatch

__all__ = ["format_stages", "run_bench"]

_WARMUP = 3  # steps
_NETWORK = ("forward", "backward", "optimizer")
_HEALTHY = 0.85  # fraction of the network in a step above which other stages need no change
_FIXES = {
    "data wait": "raise trainer.workers, or resize the images once with `ssl-lib pack`",
    "copy": "copying large images to the device takes time: resize them once with `ssl-lib pack`",
    "views": "use fewer or smaller views, or leave out operations such as the blur",
    "teacher": "the teacher is updated once per step: use a larger batch",
    "other": "very short epochs cost time at their ends: use more images",
}


class _Enough(Exception):
    """Ends the measurement."""


class _Measure(Callback):
    """Starts the clock after the first steps, and stops the run when its time is up."""

    def __init__(self, clock: Stopwatch, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.steps, self.start, self.elapsed = 0, 0.0, 0.0

    def on_update(self, state: TrainState) -> None:
        """Counts a step."""
        if state.step == _WARMUP:
            self.clock.seconds.clear()
            self.start = time.perf_counter()
        elif state.step > _WARMUP:
            self.steps += 1
            self.elapsed = time.perf_counter() - self.start
            if self.elapsed >= self.seconds:
                raise _Enough


def run_bench(options: argparse.Namespace) -> None:
    """Runs `ssl-lib bench`."""
    if not 0 < options.seconds < math.inf:
        raise ConfigError(f"--seconds must be above 0, got {options.seconds}")
    config = load_named(options.config, options.overrides)
    epochs = max(config.schedule.epochs, 10**6)  # the run must not end before the measurement
    schedule = dataclasses.replace(config.schedule, epochs=epochs)
    config = dataclasses.replace(config, schedule=schedule, evaluation=EvaluationConfig(protocols={}))
    experiment = build(config)
    clock = Stopwatch(experiment.trainer.precision.device)
    measure = _Measure(clock, options.seconds)
    experiment.trainer.run_dir, experiment.trainer.callbacks, experiment.trainer.clock = None, [measure], clock
    seed_everything(config.seed)
    with contextlib.suppress(_Enough):
        experiment.trainer.fit(experiment.method, experiment.loader, experiment.optimizer, config.schedule)
    precision = experiment.trainer.precision
    print(
        f"{config.method.name}, {config.backbone.name}, {counted(experiment.loader.batch_size, 'image')} per step, "
        f"{precision.name} on {precision.device}; {counted(measure.steps, 'step')} measured"
    )
    print(format_stages(clock.seconds, measure.elapsed, measure.steps, experiment.loader.batch_size))


def format_stages(seconds: dict[str, float], elapsed: float, steps: int, batch_size: int) -> str:
    """Formats a line per stage (milliseconds per step, percent), the speed, its limit, and what to change.

    Args:
        seconds: Seconds by stage.
        elapsed: Seconds in total, at least their sum.
        steps: Number of steps measured, at least 1.
        batch_size: Images per step.
    """
    rows = {**seconds, "other": max(0.0, elapsed - sum(seconds.values())), "step": elapsed}
    lines = [
        f"  {name:<10}{1000 * value / steps:9.2f} ms{100 * value / elapsed:6.1f} %" for name, value in rows.items()
    ]
    network = sum(seconds.get(stage, 0.0) for stage in _NETWORK)
    fraction, speed = network / elapsed, batch_size * steps / elapsed
    lines.append(f"{speed:.0f} images/s, {100 * fraction:.0f} % of the network's own speed of {speed / fraction:.0f}")
    around = {name: value for name, value in rows.items() if name in _FIXES}
    worst = max(around, key=around.__getitem__)
    if fraction >= _HEALTHY:
        lines.append(
            "the network takes most of the time, as it should; trainer.compile=true, precision bf16 or a larger batch "
            "may be faster"
        )
    else:
        lines.append(f"the network waits, mostly for {worst}: {_FIXES[worst]}")
    return "\n".join(lines)
