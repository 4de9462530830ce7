"""Tests of the learning rate that `ssl-lib train` prints, and of `--resume` with more epochs."""

from __future__ import annotations

import shutil

import pytest

from ssl_lib import load_config
from ssl_lib.cli.main import main
from ssl_lib.training.callbacks import ProgressBar
from ssl_lib.training.checkpoint import load_checkpoint
from tests.cli.conftest import WITHOUT_EVALUATION, error_of, logged_lines, results_of


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (["optimizer.lr=0.3", "trainer.batch_size=64"], "peak learning rate 0.075 = 0.3 x 64 / 256"),
        (["optimizer.lr=0.3", "trainer.batch_size=64", "schedule.lr_scaling=sqrt"], "0.15 = 0.3 x sqrt(64 / 256)"),
        (["schedule.lr_scaling=none", "trainer.batch_size=64"], "rate 0.005, not scaled by the batch size"),
    ],
)
def test_first_lines_show_the_peak_learning_rate(changes, text, tmp_path, capfd):
    assert main(["train", "quickstart", *WITHOUT_EVALUATION, *changes, f"run_dir={tmp_path}"]) == 0
    assert text in "\n".join(capfd.readouterr().err.splitlines()[:2])


def test_config_of_a_run_names_the_scaling(run):
    assert load_config(run / "config.yaml").schedule.lr_scaling == "linear"


def test_finished_run_is_made_longer_twice(run, capfd):
    before, accuracies = logged_lines(run), results_of(run)["results"]
    assert main(["train", str(run), "--resume", "schedule.epochs=0.2"]) == 0
    error = capfd.readouterr().err
    assert "schedule.epochs was 0.1, is 0.2\n" in error and "restarts" not in error.splitlines()[1]
    assert "resuming from a checkpoint: 5 of 9 steps are done\npeak learning rate " in error
    assert "made longer, from 0.1 to 0.2 epochs: the learning rate restarts at 0.00125 (0.5 of the peak)" in error
    lines = logged_lines(run)
    assert lines[: len(before)] == before and [line["step"] for line in lines if "knn" in line] == [4, 8]
    assert results_of(run)["steps"] == 9 and results_of(run)["results"] != accuracies
    config = load_config(run / "config.yaml")
    assert (config.schedule.epochs, config.schedule.restarts) == (0.2, ((0.1, 0.5),))
    assert load_checkpoint(run / "checkpoints" / "last.pt")["config"] == (run / "config.yaml").read_text()

    assert main(["train", str(run), "--resume", "schedule.epochs=0.3", "schedule.restart_lr=0.1"]) == 0
    assert "from 0.2 to 0.3 epochs: the learning rate restarts at 0.00025 (0.1 of the peak)" in capfd.readouterr().err
    assert load_config(run / "config.yaml").schedule.restarts == ((0.1, 0.5), (0.2, 0.1))
    assert main(["train", str(run), "--resume"]) == 0
    assert "this run is finished: 14 of 14 steps are done" in capfd.readouterr().err


def test_longer_run_resumes_from_an_earlier_checkpoint_if_the_newest_is_damaged(run, capfd):
    """The config in the folder has the restart already."""
    first = run / "checkpoints" / "step_00000005.pt"
    shutil.copy(first, run / "first.pt")
    assert main(["train", str(run), "--resume", "schedule.epochs=0.2"]) == 0
    expected = load_checkpoint(run / "checkpoints" / "last.pt")
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    shutil.move(run / "first.pt", first)
    assert main(["train", str(run), "--resume"]) == 0
    assert "resuming from a checkpoint: 5 of 9 steps are done" in capfd.readouterr().err
    assert load_checkpoint(run / "checkpoints" / "last.pt")["schedule"] == expected["schedule"]


def test_other_settings_stay_refused_when_a_run_is_made_longer(run, capsys):
    before = (run / "config.yaml").read_text()
    error = error_of(capsys, "train", run, "--resume", "schedule.epochs=0.2", "optimizer.lr=9.0")
    assert "optimizer.lr was 0.005, is 9.0. Its training cannot be changed" in error
    error = error_of(capsys, "train", run, "--resume", "schedule.restart_lr=0.2")
    assert "schedule.restart_lr was 0.5, is 0.2. Its training cannot be changed" in error
    assert (run / "config.yaml").read_text() == before


def test_unfinished_run_is_not_made_longer(run, capsys, monkeypatch):
    def interrupt(bar, state):
        if state.step == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "on_update", interrupt)
        changes = ["schedule.epochs=0.2", "trainer.save_minutes=1e-9"]
        assert main(["train", str(run), "--resume", *changes]) == 130
    error = error_of(capsys, "train", run, "--resume", "schedule.epochs=0.3")
    assert error.startswith(
        "ssl-lib: error: a run must be resumed with its original config: "
    )  # before the first lines
    assert "schedule.epochs was 0.2, is 0.3. Its training cannot be changed. Raising schedule.epochs makes" in error
    assert main(["train", str(run), "--resume"]) == 0
    assert main(["train", str(run), "--resume", "schedule.epochs=0.3"]) == 0
