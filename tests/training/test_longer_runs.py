"""Finished runs that are made longer: another cosine follows, and every interruption still resumes exactly."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import LARS, CheckpointError, Schedule, Trainer
from ssl_lib.evaluation import KNN, Evaluator
from ssl_lib.runs.folder import RunFolder
from ssl_lib.training.callbacks import Callback, Evaluation, default_callbacks
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint
from tests.conftest import TinyBackbone
from tests.training.helpers import StopAfter, assert_same, read_lines

WARM = {"warmup_epochs": 1, "weight_decay_end": 0.1}


class Teachers(Callback):
    """Records the teacher's and the student's first weight, and the weight decay, after every update."""

    def __init__(self):
        self.teacher, self.student, self.decays = [], [], []

    def on_update(self, state):
        self.teacher.append(next(state.method.teacher.parameters()).clone())
        self.student.append(next(state.method.backbone.parameters()).detach().clone())
        self.decays.append(state.optimizer.param_groups[0]["weight_decay"])


@pytest.fixture
def fit(make_method, make_loader):
    """Trains 3 updates per epoch; with `stop`, up to that update."""

    def train(folder, schedule, *callbacks, name="simclr", resume=False, stop=None, batch_size=32):
        method, stopper = make_method(name), StopAfter(stop)
        torch.manual_seed(0 if stop is None else stop)  # a resumed run must not depend on it
        callbacks = [stopper, *default_callbacks(folder), *callbacks]
        trainer = Trainer(folder, precision="fp32", device="cpu", log_every=2, callbacks=callbacks)
        stopper.trainer, optimizer = trainer, LARS(method.param_groups(1e-4), lr=0.3)
        return trainer.fit(method, make_loader(name, batch_size), optimizer, schedule, resume=resume)

    return train


def lines_without_times(folder):
    times = {"images_per_second": 0, "data_wait": 0, "memory_gb": 0}
    return [{**line, **times} if "loss" in line else line for line in read_lines(folder / "metrics.jsonl")]


@pytest.mark.parametrize("name", ["simclr", "byol", "dino"])
@pytest.mark.parametrize("epochs", [2, 4 / 3])  # 4 updates end within an epoch
def test_run_made_longer_twice_equals_one_run_with_these_restarts(name, epochs, fit, tmp_path):
    restarts = ((epochs, 0.5), (3, 0.25))
    whole = fit(tmp_path / "a", Schedule(epochs=4, restarts=restarts, **WARM), name=name)
    first = fit(tmp_path / "b", Schedule(epochs=epochs, **WARM), name=name)
    assert first.finished
    before = lines_without_times(tmp_path / "b")
    second = fit(tmp_path / "b", Schedule(epochs=3, **WARM), name=name, resume=True)
    assert (second.resumed_at, second.step, second.schedule.restarts) == (first.step, 9, restarts[:1])
    third = fit(tmp_path / "b", Schedule(epochs=4, restart_lr=0.25, **WARM), name=name, resume=True)
    assert (third.resumed_at, third.step, third.schedule.restarts) == (9, 12, restarts)
    assert_same(whole.state_dict(), third.state_dict())
    lines = lines_without_times(tmp_path / "b")
    assert lines == lines_without_times(tmp_path / "a") and lines[: len(before)] == before


@pytest.mark.parametrize("name", ["simclr", "dino"])
def test_longer_run_that_is_stopped_at_every_step_equals_an_uninterrupted_one(name, fit, tmp_path):
    for folder in ("a", "b"):
        fit(tmp_path / folder, Schedule(epochs=2, **WARM), name=name)
    whole = fit(tmp_path / "a", Schedule(epochs=4, **WARM), name=name, resume=True)
    for stop in (*range(7, 12), None):
        state = fit(tmp_path / "b", Schedule(epochs=4, **WARM), name=name, resume=True, stop=stop)
        assert state.step == (stop or 12)
    assert_same(whole.state_dict(), state.state_dict())
    assert lines_without_times(tmp_path / "a") == lines_without_times(tmp_path / "b")


def test_learning_rate_restarts_at_half_the_peak(fit, tmp_path, capfd):
    fit(tmp_path, Schedule(epochs=2))
    assert "made longer" not in capfd.readouterr().err
    fit(tmp_path, Schedule(epochs=4), resume=True, stop=8)
    error = capfd.readouterr().err
    assert "peak learning rate 0.0375 = 0.3 x 32 / 256" in error
    restart = "this run was made longer, from 2 to 4 epochs: the learning rate restarts at 0.01875 (0.5 of the peak)"
    assert f"{restart} and falls by a cosine to 0\n" in error and "teacher" not in error
    assert [line["lr"] for line in read_lines(tmp_path / "metrics.jsonl") if line["step"] == 7] == pytest.approx(
        [0.0375 / 2 * (1 + 3**0.5 / 2) / 2]  # the cosine of 1/6 of half a turn
    )
    assert RunFolder(tmp_path).diagnosis()["facts"]["total_steps"] == 12
    fit(tmp_path, Schedule(epochs=4), resume=True)
    error = capfd.readouterr().err
    assert f": 8 of 12 steps are done\npeak learning rate 0.0375 = 0.3 x 32 / 256\n{restart}" in error


def test_teacher_and_weight_decay_keep_their_final_values(fit, tmp_path, capfd):
    recorder = Teachers()
    fit(tmp_path, Schedule(epochs=2, weight_decay_end=0.1), recorder, name="byol")
    assert not torch.equal(recorder.teacher[0], recorder.teacher[-1])
    assert "final value" not in capfd.readouterr().err
    recorder = Teachers()
    fit(tmp_path, Schedule(epochs=3, weight_decay_end=0.1), recorder, name="byol", resume=True)
    assert all(torch.equal(recorder.teacher[0], teacher) for teacher in recorder.teacher)
    assert not torch.equal(recorder.student[0], recorder.student[-1]) and recorder.decays == [0.1] * 3
    momenta = [line["teacher_momentum"] for line in read_lines(tmp_path / "metrics.jsonl") if line["step"] > 5]
    assert momenta == [1.0] * len(momenta) and momenta
    error = capfd.readouterr().err
    assert "weight decay stays at its final value, 0.1\n" in error
    assert "teacher's momentum stays at its final value, 1\n" in error and "warning: with this momentum" not in error


def test_evaluated_teacher_that_no_longer_changes_is_reported(fit, tmp_path, capfd):
    fit(tmp_path, Schedule(epochs=1), name="dino")
    fit(tmp_path, Schedule(epochs=2), name="dino", resume=True)
    assert "the teacher, which is the evaluated network, no longer changes" in capfd.readouterr().err


def test_evaluation_at_the_first_end_stays_in_the_metrics(fit, images, tmp_path):
    def evaluation():
        evaluator = Evaluator(images, images, [KNN(k=3)], random_encoder=TinyBackbone())
        return Evaluation(evaluator, 10, tmp_path / "evaluation.json", evaluator.limited(20))

    fit(tmp_path, Schedule(epochs=2), evaluation())
    before = lines_without_times(tmp_path)
    state = fit(tmp_path, Schedule(epochs=3), evaluation(), resume=True)
    lines = lines_without_times(tmp_path)
    assert lines[: len(before)] == before and [line["step"] for line in lines if "knn" in line] == [5, 8]
    assert sorted(state.evaluations) == [6, 9]


def test_unfinished_run_cannot_be_made_longer(fit, tmp_path):
    fit(tmp_path, Schedule(epochs=3), stop=5)
    with pytest.raises(CheckpointError, match=r"the run is not finished \(5 of 9 steps\).* resume it with 3 epochs"):
        fit(tmp_path, Schedule(epochs=4), resume=True)
    fit(tmp_path, Schedule(epochs=3), resume=True)
    fit(tmp_path, Schedule(epochs=4), resume=True, stop=10)
    with pytest.raises(CheckpointError, match=r"the run is not finished \(10 of 12 steps\).* resume it with 4 epochs"):
        fit(tmp_path, Schedule(epochs=5), resume=True)


def test_longer_run_cannot_be_made_shorter(fit, tmp_path):
    fit(tmp_path, Schedule(epochs=1))
    fit(tmp_path, Schedule(epochs=3), resume=True, stop=4)
    for epochs in (1, 2):
        with pytest.raises(CheckpointError, match=f"saved with total_steps 9, but this run has {3 * epochs}"):
            fit(tmp_path, Schedule(epochs=epochs), resume=True)


def test_checkpoint_of_an_earlier_version_resumes_but_is_not_made_longer(fit, tmp_path):
    fit(tmp_path, Schedule(epochs=2), stop=4)
    path = tmp_path / "checkpoints" / "last.pt"
    saved = load_checkpoint(path)
    del saved["schedule"], saved["format"], saved["data"]["fingerprint"]
    for group in saved["optimizer"]["param_groups"]:
        for key in ("base_lr", "scheduled_lr", "scheduled_weight_decay"):
            group.pop(key, None)
    save_checkpoint(path, saved)
    with pytest.raises(CheckpointError, match="saved with total_steps 6, but this run has 9"):
        fit(tmp_path, Schedule(epochs=3), resume=path)
    assert fit(tmp_path, Schedule(epochs=2), resume=path).finished
