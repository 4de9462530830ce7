"""Callbacks, methods and functions that several training tests share."""

from __future__ import annotations

import dataclasses
import json

import torch
from torch import nn

from ssl_lib import LARS, Method, Progress, Schedule, StepOutput, Trainer, ViewPipeline
from ssl_lib.doctor import Doctor, RunFacts, write_diagnosis
from ssl_lib.training.callbacks import Callback
from tests.conftest import TinyBackbone


class DoubleViews(ViewPipeline):
    """Views in float64."""

    def __call__(self, *arguments, **keywords):
        views = super().__call__(*arguments, **keywords)
        large, small = (tuple(view.double() for view in part) for part in (views.large, views.small))
        return dataclasses.replace(views, large=large, small=small)


class InterruptAfter(Callback):
    """Raises KeyboardInterrupt after a number of updates, in all processes."""

    every_rank = True

    def __init__(self, step):
        self.step = step

    def on_update(self, state):
        if state.step == self.step:
            raise KeyboardInterrupt


class CrashError(Exception):
    """Raised by `CrashAfter`."""


class CrashAfter(Callback):
    """Raises CrashError after a number of updates."""

    def __init__(self, step):
        self.step = step

    def on_update(self, state):
        if state.step == self.step:
            raise CrashError


class StopAfter(Callback):
    """Asks the trainer to stop after a number of updates, as a signal would."""

    def __init__(self, step):
        self.step, self.trainer = step, None

    def on_update(self, state):
        if state.step == self.step:
            self.trainer.stop()


class InitialScale(Callback):
    """Sets the initial loss scale of fp16."""

    def __init__(self, scale):
        self.scale = scale

    def on_start(self, state):
        state.scaler._init_scale = self.scale


class Recorder(Callback):
    """Records the logged lines and counts the calls of `on_end`."""

    def __init__(self):
        self.lines, self.ends = [], 0

    def on_log(self, state, metrics):
        self.lines.append(dict(metrics))

    def on_end(self, state):
        self.ends += 1


class MeanSquare(Method):
    """A loss that is a mean over the batch, without BatchNorm: K micro-batches must equal one batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
        self.backbone.out_dim = 4
        self.updates = []

    def forward(self, views, progress):
        z = self.backbone(views.large[0])
        self.last = views
        return StepOutput(z.square().mean(), embeddings=z.detach())

    def after_update(self, progress):
        self.updates.append(progress.step)


class BadLossAt(Method):
    """Adds `value` to the loss of one step; with `poison`, a weight becomes NaN one step earlier."""

    def __init__(self, at, value, poison=False):
        super().__init__()
        self.backbone, self.at, self.value, self.poison = TinyBackbone(), at, value, poison

    def forward(self, views, progress: Progress):
        z = self.backbone(views.large[0])
        bad = self.value if progress.step == self.at else 0.0
        if self.poison and progress.step == self.at - 1:
            next(self.backbone.parameters()).data.fill_(float("nan"))
        return StepOutput(z.mean() + bad, embeddings=z.detach())


def run(make_method, make_loader, name="simclr", callbacks=(), schedule=None, resume=False, **options):
    """Trains a method, by default for 3 epochs of 3 updates."""
    method, loader = make_method(name), make_loader(name)
    trainer = Trainer(callbacks=list(callbacks), precision="fp32", device="cpu", **options)
    optimizer = LARS(method.param_groups(1e-4), lr=0.3)
    return trainer.fit(method, loader, optimizer, schedule or Schedule(epochs=3, warmup_epochs=1), resume=resume)


def read_lines(path):
    """The lines of a `metrics.jsonl`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_same(a, b, path=""):
    """Asserts that two states are equal bit for bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{index}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def write_run(folder, lines, **facts):
    """Writes `diagnosis.json` and `metrics.jsonl` of a run."""
    doctor = Doctor(RunFacts(**{"total_steps": 100, "steps_per_epoch": 10, "rows": 64, "embedding_dim": 16, **facts}))
    write_diagnosis(folder / "diagnosis.json", doctor)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
