"""The progress lines of a run whose output is not a terminal, such as a log file."""

from __future__ import annotations

import re

import pytest

from ssl_lib import LARS, Schedule, Trainer
from ssl_lib.evaluation import KNN, Evaluator
from ssl_lib.training.callbacks import Callback, Evaluation, ProgressBar, default_callbacks
from tests.conftest import TinyBackbone


class Losses(Callback):
    """Records the loss and learning rate of every line."""

    def __init__(self):
        self.losses, self.rates = [], []

    def on_log(self, state, metrics):
        if "loss" in metrics:
            self.losses.append(metrics["loss"])
            self.rates.append(metrics["lr"])


def fit(make_method, make_loader, *callbacks, epochs=2, run_dir=None, resume=False, log_every=1):
    method = make_method("simclr")
    trainer = Trainer(run_dir, callbacks=callbacks, precision="fp32", device="cpu", log_every=log_every)
    optimizer = LARS(method.param_groups(0.0), lr=0.3)
    return trainer.fit(method, make_loader(), optimizer, Schedule(epochs=epochs), resume=resume)


def printed_values(err):
    return [tuple(map(float, pair)) for pair in re.findall(r"loss (\S+)  lr (\S+)", err)]


def test_epoch_line_has_the_mean_loss_and_the_last_learning_rate(make_method, make_loader, capfd):
    recorder = Losses()
    fit(make_method, make_loader, recorder)
    fit(make_method, make_loader, ProgressBar(), log_every=2)  # per epoch, a line of two updates and a line of one
    lines = printed_values(capfd.readouterr().err)
    expected = [(sum(recorder.losses[i : i + 3]) / 3, recorder.rates[i + 2]) for i in (0, 3)]
    assert lines == [(pytest.approx(loss, rel=1e-3), pytest.approx(rate, rel=1e-2)) for loss, rate in expected]


def test_resume_of_a_finished_run_is_reported(make_method, make_loader, capfd, tmp_path):
    fit(make_method, make_loader, *default_callbacks(tmp_path), run_dir=tmp_path)
    assert "resuming from a checkpoint" not in capfd.readouterr().err
    fit(make_method, make_loader, *default_callbacks(tmp_path), run_dir=tmp_path, resume=True)
    assert "this run is finished: 6 of 6 steps are done" in capfd.readouterr().err


def test_accuracies_during_the_run_are_printed(make_method, make_loader, images, capfd):
    evaluator = Evaluator(images, images, [KNN(k=3)], random_encoder=TinyBackbone())
    fit(make_method, make_loader, ProgressBar(), Evaluation(evaluator, every_epochs=1))
    captured = capfd.readouterr()
    assert captured.err.count("knn") == 1 and "epoch 1/2  knn" in captured.err
    assert captured.out.count("trained") == 1
