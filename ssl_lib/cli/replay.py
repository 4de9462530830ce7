"""`ssl-lib replay`: the step that stopped a run, once more, and where its numbers stop being finite."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_lib.cli.common import counted
from ssl_lib.config.load import load_config
from ssl_lib.config.run_config import EvaluationConfig
from ssl_lib.errors import CheckpointError, ConfigError, listed
from ssl_lib.experiment.build import Experiment, build
from ssl_lib.runs.files import CHECKPOINTS, CONFIG_FILE, LAST, NONFINITE_FILE, NONFINITE_STATE
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.replay import StepReport, inspect_step
from ssl_lib.utils.seeding import seed_everything

__all__ = ["run_replay"]

_SHOWN = 8  # images and files
_DIVERGED = """\
The weights were out of range before this step: training diverged. Start anew with a lower
optimizer.lr, a longer schedule.warmup_epochs, or trainer.clip_norm=1.0."""
_SINGULAR = """\
The weights are in range: the numbers went bad where `forward` or `backward` says. A root, norm,
logarithm or quotient must be kept away from zero there, an exponential from large values."""
_REPEATED = """\
Every number of this step is finite here. If it was not so in the run, its arithmetic cannot be
repeated (CUDA, trainer.compile), or the data, the settings or the versions are others now."""


def run_replay(options: argparse.Namespace) -> None:
    """Runs `ssl-lib replay`."""
    run = Path(options.folder)
    if not (run / CONFIG_FILE).is_file():
        raise ConfigError(
            f"{run} is not the folder of a run with a config.yaml; in a script, use "
            "ssl_lib.training.replay.inspect_step"
        )
    record = _read_record(run)
    step = options.step if options.step is not None else record.get("step")
    if step is None:
        raise ConfigError(f"{run} has no nonfinite.json, so no bad number stopped it: name a step with --step N")
    config = load_config(run / CONFIG_FILE, options.overrides)
    experiment = build(dataclasses.replace(config, evaluation=EvaluationConfig(protocols={})))
    total = config.schedule.total_steps(experiment.loader.steps_per_epoch)
    if not 0 <= step < total:
        raise ConfigError(f"--step: this run has the steps 0 to {total - 1}, got {step}")
    start, done = _latest_checkpoint(run, step)
    if step > done:
        print(f"training {counted(step - done, 'step')} to get to step {step} again ...", file=sys.stderr, flush=True)
    seed_everything(config.seed)
    parts = experiment.method, experiment.loader, experiment.optimizer, experiment.config.schedule
    report = inspect_step(experiment.trainer, *parts, step=step, start=start)
    epoch = step // experiment.loader.steps_per_epoch + 1
    source = "the run's first step" if start is None else start.name
    print(f"step {step} (epoch {epoch}), repeated from {source}{_changes(options.overrides)}")
    for name, text in _rows(report, experiment, record if record.get("step") == step else {}):
        print(f"  {name:<10} {text}")
    print(f"\n{_advice(report, experiment, run)}")


def _read_record(run: Path) -> dict[str, Any]:
    """What the run wrote as it stopped, if it did."""
    path = run / NONFINITE_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {**content, "step": int(content["step"])} if content else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): name a step with --step N") from error


def _latest_checkpoint(run: Path, step: int) -> tuple[Path | None, int]:
    """The checkpoint nearest before a step, and how many steps were done there; None for the run's start."""
    paths = [run / NONFINITE_STATE, *sorted((run / CHECKPOINTS).glob("*.pt"))]
    steps = {path: load_checkpoint(path)["step"] for path in paths if path.exists()}
    return max(((path, done) for path, done in steps.items() if done <= step), key=lambda x: x[1], default=(None, 0))


def _rows(report: StepReport, experiment: Experiment, record: dict[str, Any]) -> list[tuple[str, str]]:
    precision, data = experiment.trainer.precision, experiment.loader.data
    then = record.get("loss")
    as_then = "" if then is None else ", as in the run" if str(then) == str(report.loss) else f"; in the run {then}"
    rows = [
        ("loss", f"{report.loss:.6g}{as_then}"),
        ("lr", f"{report.lr:.3g}, {precision.name} on {precision.device}"),
        ("images", f"{len(report.indices)}: {listed(report.indices, _SHOWN)}"),
        *[(f"view {number}", line) for number, line in enumerate(report.views, start=1)],
        ("weights", report.weights),
    ]
    if report.constant:
        rows.append(("constant", f"{counted(len(report.constant), 'image')} with a view of one value: "
                     f"{_named(report.constant, data)}"))  # fmt: skip
    if report.finite:
        return rows
    rows.append(("forward", report.forward or "the output of every module is finite"))
    if report.backward:
        rows.append(("backward", report.backward))
    if 0 < len(report.images) < len(report.indices):
        rows.append(("at", f"{counted(len(report.images), 'image')}: {_named(report.images, data)}"))
    total = sum(parameter.requires_grad for parameter in experiment.method.parameters())
    rows.append(("gradients", f"not finite in {len(report.gradients)} of {counted(total, 'parameter')}"))
    if report.after:
        rows.append(("after it", f"{counted(len(report.after), 'parameter')} not finite, such as {report.after[0]}"))
    return rows


def _advice(report: StepReport, experiment: Experiment, run: Path) -> str:
    """What it means, and what to do next."""
    name, precision = shlex.quote(str(run)), experiment.trainer.precision.name
    if report.finite:
        return _REPEATED
    lines = [_DIVERGED if report.diverged or report.after else _SINGULAR]
    if precision != "fp32" and not report.diverged:
        lines.append(f"to see whether {precision} overflowed:  ssl-lib replay {name} trainer.precision=fp32")
    if not report.diverged:
        resume = " --resume" if (run / CHECKPOINTS / LAST).exists() else ""
        lines.append(f"to skip such updates:  ssl-lib train {name}{resume} trainer.skip_nonfinite=3")
    return "\n".join(lines)


def _changes(overrides: Sequence[str]) -> str:
    return f", with {' '.join(overrides)}" if overrides else ""


def _named(indices: Sequence[int], data: object) -> str:
    """Indices, and the images' files where the data have them."""
    name_of = getattr(data, "path", None)
    named = (f"{index} ({name_of(index)})" if callable(name_of) else index for index in indices)
    return listed(named, _SHOWN)
