"""Runs with infinite losses or gradients at chosen steps."""

from __future__ import annotations

import contextlib
import copy
import math

import pytest
import torch

from ssl_lib import LARS, Schedule, StepOutput, Trainer
from ssl_lib.training.callbacks import Callback
from ssl_lib.training.update import Update

SCHEDULE = Schedule(epochs=3, warmup_epochs=1)


class RecordStates(Callback):
    """Records the state after every update, and what `on_nonfinite` receives."""

    def __init__(self):
        self.states, self.found = {}, []

    def on_start(self, state):
        self.on_update(state)

    def on_update(self, state):
        self.states[state.step] = copy.deepcopy(state.state_dict())

    def on_nonfinite(self, state, found):
        self.found.append(found)


@contextlib.contextmanager
def checking_late():
    """Checks losses and gradients only when a line is logged, as on CUDA."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_lib.training.trainer.Update", lambda **options: Update(**{**options, "at_once": False}))
        yield


def infinite_loss(loss):
    return loss + math.inf


def infinite_gradient(loss):
    """Adds zero, with an infinite gradient."""
    return loss + (loss - loss.detach()).abs().sqrt()


def with_bad_steps(method, steps, change_loss):
    """Applies `change_loss` to the method's loss at some steps."""
    forward = method.forward

    def changed_forward(views, progress):
        noise = torch.rand(())  # depends on the global generator
        output = forward(views, progress)
        loss = output.loss * (1 + noise)
        return StepOutput(change_loss(loss) if progress.step in steps else loss, output.metrics, output.embeddings)

    method.forward = changed_forward
    return method


def fit_with_bad_steps(method, loader, steps, change_loss, run_dir=None, callbacks=(), resume=False, **options):
    """Trains for 3 epochs of 3 updates, with a changed loss at some steps."""
    method = with_bad_steps(method, steps, change_loss)
    trainer = Trainer(run_dir, callbacks=list(callbacks), precision="fp32", device="cpu", **options)
    torch.manual_seed(0)
    return trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.3), SCHEDULE, resume=resume)
