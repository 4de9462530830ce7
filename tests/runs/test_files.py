"""Tests of finding a run by its folder or a checkpoint, and of deleting a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_lib import ConfigError
from ssl_lib.runs.files import delete_run, evaluation_file, run_folder, suggested_run


@pytest.fixture
def run(tmp_path):
    """A folder with the names of a run's files."""
    (tmp_path / "checkpoints").mkdir()
    for name in ("config.yaml", "metrics.jsonl", "evaluation.json", "checkpoints/last.pt", "checkpoints/epoch_0010.pt"):
        (tmp_path / name).touch()
    return tmp_path


def test_run_is_found_by_its_folder_or_a_checkpoint(run):
    assert run_folder(run) == run_folder(str(run)) == run_folder(run / "checkpoints" / "last.pt") == run
    (run / "copy.pt").touch()
    assert run_folder(run / "copy.pt") == run


@pytest.mark.parametrize("path", ["missing", "config.yaml", "metrics.jsonl"])
def test_other_path_is_not_a_run(path, run):
    with pytest.raises(ConfigError, match=f"no run at .*{path}: it is neither a folder nor a checkpoint file"):
        run_folder(run / path)


def test_a_misspelled_run_is_suggested(run):
    with pytest.raises(ConfigError, match=f"it is neither a folder nor a checkpoint file; did you mean {run}"):
        run_folder(f"{run}x")


def test_a_run_in_the_folder_runs_is_suggested(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "quickstart" / "checkpoints").mkdir(parents=True)
    assert suggested_run("quickstrat") == suggested_run("runs/quikstart") == "; did you mean runs/quickstart?"
    assert suggested_run("runs/quickstart") == suggested_run("entirely/other-1234") == ""


def test_folder_without_files_of_a_run_is_not_a_run(tmp_path):
    with pytest.raises(ConfigError, match=r"it holds none of config\.yaml, metrics\.jsonl"):
        run_folder(tmp_path)


def test_every_checkpoint_has_its_own_evaluation_file(run):
    assert evaluation_file(run) == evaluation_file(run / "checkpoints" / "last.pt") == run / "evaluation.json"
    assert evaluation_file(run / "checkpoints" / "epoch_0010.pt") == run / "evaluation_epoch_0010.json"


def test_delete_run_keeps_other_files(run):
    (run / "notes.txt").touch()
    (run / "nonfinite.json").touch()
    delete_run(run, keep="nonfinite.json")
    assert {path.name for path in run.iterdir()} == {"checkpoints", "config.yaml", "notes.txt", "nonfinite.json"}
    assert not list((run / "checkpoints").iterdir())


def test_interrupted_deletion_leaves_no_checkpoint_without_its_metrics(run, monkeypatch):
    unlink = Path.unlink

    def interrupt_at_metrics(path, **options):
        if path.name == "metrics.jsonl":
            raise KeyboardInterrupt
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", interrupt_at_metrics)
    with pytest.raises(KeyboardInterrupt):
        delete_run(run)
    assert not list((run / "checkpoints").iterdir())
