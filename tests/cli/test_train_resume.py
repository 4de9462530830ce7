"""Tests of `ssl-lib train --resume`."""

from __future__ import annotations

import json
import shutil

import pytest

from ssl_lib.cli.common import config_folder
from ssl_lib.cli.main import main
from ssl_lib.training.callbacks import ProgressBar
from tests.cli.conftest import WITHOUT_EVALUATION, error_of


def test_finished_run_is_not_trained_further(run, capsys):
    before = (run / "metrics.jsonl").read_text()
    assert main(["train", str(run / "config.yaml"), "--resume", f"run_dir={run}"]) == 0
    assert (run / "metrics.jsonl").read_text() == before
    assert "this run is finished: 5 of 5 steps" in capsys.readouterr().err


def test_length_of_a_partial_epoch_is_printed_in_steps(run, capsys):
    assert main(["train", str(run), "--resume"]) == 0
    assert ", 5 steps, 46 per epoch, " in capsys.readouterr().err


def test_moved_run_resumes_in_its_new_folder(run, tmp_path, capsys):
    moved = tmp_path / "moved run"
    shutil.move(run, moved)
    assert main(["train", str(moved), "--resume"]) == 0
    out = capsys.readouterr().out
    assert f"ssl-lib evaluate '{moved}'" in out and f"from_run('{moved}')" in out


def test_resume_refuses_changes_that_affect_training_and_keeps_the_config(run, capsys):
    before = (run / "config.yaml").read_text()
    error = error_of(capsys, "train", run, "--resume", "method.temperature=0.5", "optimizer.lr=9.0")
    assert "training cannot be changed." in error and f"backbone.weights={run} to use this run's backbone" in error
    assert "method.temperature was 0.1, is 0.5" in error and "optimizer.lr was 0.005, is 9.0" in error
    assert (run / "config.yaml").read_text() == before


@pytest.mark.parametrize("change", ["trainer.batch_size=7000", "backbone.width=16", "schedule.lr_scaling=sqrt"])
def test_changes_are_refused_before_the_run_is_built(change, run, capsys):
    """The batch is larger than the data set, which the build would refuse."""
    changes = dict.fromkeys([change, "trainer.batch_size=7000"])
    error = error_of(capsys, "train", run, "--resume", *changes)
    assert error.startswith("ssl-lib: error: a run must be resumed with its original config: ")
    assert all(f"{text.partition('=')[0]} was " in error for text in changes)


def test_run_resumes_with_the_file_that_it_was_trained_with(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (config_folder() / "quickstart.yaml").read_text().replace("epochs: 10, warmup_epochs: 1", "epochs: 0.05")
    small = text.replace("pool: 4", "pool: 4, width: 8").replace("every_epochs: 10", "every_epochs: 0")
    (tmp_path / "mine.yaml").write_text(small)
    assert main(["train", "mine.yaml"]) == 0
    assert main(["train", "mine.yaml", "--resume"]) == 0
    assert "this run is finished: 2 of 2 steps are done" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text(text)
    error = error_of(capsys, "train", "mine.yaml", "--resume")
    assert "backbone.width was 8, is " in error
    assert error.endswith(". To resume with the run's own config: ssl-lib train runs/mine --resume\n")
    assert main(["train", "runs/mine", "--resume"]) == 0


def test_a_longer_warmup_than_a_finished_run_is_refused_as_a_change(run, capsys):
    error = error_of(capsys, "train", run, "--resume", "schedule.epochs=3", "schedule.warmup_epochs=2")
    assert "schedule.epochs was 0.1, is 3; schedule.warmup_epochs was 0" in error


def test_resume_without_a_run_names_the_closest_run_and_the_command(run, monkeypatch, capsys):
    monkeypatch.chdir(run.parent)
    shutil.copytree(run, "runs/quickstart2")
    error = error_of(capsys, "train", "quickstart", "--resume")
    assert "there is no run to resume at runs/quickstart; did you mean runs/quickstart2? To resume a run, give" in error
    assert "ssl-lib train RUN --resume; to start this one, leave out --resume" in error
    assert not (run.parent / "runs" / "quickstart").exists()


def test_resume_accepts_and_prints_changes_that_do_not_affect_training(run, capsys):
    assert main(["train", str(run), "--resume", "trainer.log_every=7", "evaluation.knn.k=3"]) == 0
    (note,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert "evaluation.knn.k was 5, is 3" in note and "trainer.log_every was 20, is 7" in note


def test_run_without_its_checkpoints_does_not_start_again(run, capsys):
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").read_bytes()
    error = error_of(capsys, "train", run, "--resume")
    assert f"the checkpoints of {run} are missing, although its metrics.jsonl has 1 epoch" in error
    assert "run_dir=" in error and (run / "metrics.jsonl").read_bytes() == before


def test_run_killed_during_its_first_save_starts_again(run, capsys):
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "step_00000005.pt.partial").touch()
    assert main(["train", str(run), "--resume", "evaluation.every_epochs=0"]) == 0
    assert "holds no checkpoint yet: the run starts again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "starts"),
    [
        ([{"epoch": 1, "loss": 1.0}], True),
        ([{"epoch": 1, "loss": 1.0}, {"epoch": 1, "skipped": 2}], True),
        ([{"epoch": 0, "knn": 0.5}], True),
        ([{"epoch": 1, "knn": 0.5}], False),
        ([{"epoch": 2, "loss": 1.0}], False),
    ],
)
def test_run_starts_again_only_if_no_save_was_due(lines, starts, tmp_path, capsys):
    shutil.copy(config_folder() / "quickstart.yaml", tmp_path / "config.yaml")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": 0, **line}) + "\n" for line in lines))
    # The batch is too large, which is found after the checkpoints, when the run is built.
    error = error_of(capsys, "train", tmp_path, "--resume", "trainer={save_every: 2, device: cpu, batch_size: 7000}")
    assert ("holds no checkpoint yet" in error) == ("larger than the data set" in error) == starts
    assert ("are missing" in error) != starts


def test_run_interrupted_before_its_first_checkpoint_starts_again(tmp_path, monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "on_update", interrupt)
        assert main(["train", "quickstart", *WITHOUT_EVALUATION, f"run_dir={tmp_path}"]) == 130
    assert "nothing is saved yet: start again" in capsys.readouterr().err
    assert main(["train", str(tmp_path), "--resume"]) == 0
    assert "holds no checkpoint yet: the run starts again" in capsys.readouterr().err
