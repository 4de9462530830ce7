"""The commands as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from ssl_lib import load_method
from ssl_lib.checkpoint import load_checkpoint, save_checkpoint
from ssl_lib.cli import _config_folder, main

QUICK = [
    "schedule.epochs=0.1",
    "schedule.warmup_epochs=0",
    "backbone.width=8",
    "method.hidden_dim=16",
    "evaluation.linear.draws=1",
    "evaluation.knn.k=5",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps on the embedded images."""
    folder = tmp_path_factory.mktemp("runs") / "quick"
    assert main(["train", "quickstart", *QUICK, f"run_dir={folder}"]) == 0
    return folder


def test_train_leaves_a_whole_run_folder(run):
    assert {path.name for path in run.iterdir()} == {"config.yaml", "metrics.jsonl", "evaluation.json", "checkpoints"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "epoch", "loss", "lr", "images_per_second", "data_wait"} <= set(lines[0])
    assert "knn" in lines[-1]
    results = json.loads((run / "evaluation.json").read_text())["results"]
    assert set(results) == {"raw pixels", "random init", "trained"}


def test_train_refuses_to_overwrite_and_says_how(run, capsys):
    assert main(["train", "quickstart", f"run_dir={run}"]) == 2
    error = capsys.readouterr().err
    assert "--resume" in error and "--overwrite" in error and "Traceback" not in error


def test_resuming_a_finished_run_trains_no_further(run, capsys):
    before = (run / "metrics.jsonl").read_text()
    assert main(["train", str(run / "config.yaml"), "--resume", f"run_dir={run}"]) == 0
    assert (run / "metrics.jsonl").read_text() == before


def test_evaluate_prints_the_same_table_and_takes_overrides(run, capsys):
    trained = json.loads((run / "evaluation.json").read_text())["results"]
    assert main(["evaluate", str(run)]) == 0
    table = capsys.readouterr().out
    assert "raw pixels" in table and "random init" in table and "kNN (k=5)" in table
    assert f"{100 * trained['trained']['knn']:.1f}" in table
    assert json.loads((run / "evaluation.json").read_text())["results"] == trained
    assert main(["evaluate", str(run / "checkpoints" / "last.pt"), "evaluation.knn.k=7", "evaluation.linear=null"]) == 0
    table = capsys.readouterr().out
    assert "kNN (k=7)" in table and "linear" not in table


def test_overwrite_starts_anew_and_keeps_other_files(run, tmp_path):
    folder = tmp_path / "again"
    assert main(["train", "quickstart", *QUICK, f"run_dir={folder}"]) == 0
    (folder / "notes.txt").write_text("mine")
    assert main(["train", "quickstart", *QUICK, "seed=1", "--overwrite", f"run_dir={folder}"]) == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert "seed: 1" in (folder / "config.yaml").read_text()


def test_overwrite_deletes_nothing_before_the_new_run_can_start(run):
    before = sorted(path.name for path in run.rglob("*"))
    for bad in ("trainer.device=cuda:77", "optimizer.lr=-1", "evaluation.knn.k=70000"):
        assert main(["train", "quickstart", bad, f"run_dir={run}", "--overwrite"]) == 2
    assert sorted(path.name for path in run.rglob("*")) == before


def test_resume_refuses_another_config_and_leaves_the_runs_own(run, capsys):
    before = (run / "config.yaml").read_text()
    arguments = ["train", str(run / "config.yaml"), "--resume"]
    assert main([*arguments, "method.temperature=0.5", "optimizer.lr=9.0"]) == 2
    error = capsys.readouterr().err
    assert "method.temperature was 0.1, is 0.5" in error and "optimizer.lr was 0.005, is 9.0" in error
    assert (run / "config.yaml").read_text() == before
    assert main([*arguments, "trainer.log_every=7", "evaluation.knn.k=3"]) == 0


def test_a_config_of_the_users_own_is_not_written_over(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    text = "# mine\n" + (_config_folder() / "quickstart.yaml").read_text() + f"run_dir: {tmp_path}\n"
    config.write_text(text)
    assert main(["train", str(config)]) == 2
    assert "choose another run_dir" in capsys.readouterr().err
    assert config.read_text() == text


def test_load_method_needs_no_data_and_comes_in_eval_mode(run):
    method = load_method(run)
    assert not method.training
    assert method.encoder(torch.zeros(2, 1, 28, 28)).shape == (2, method.encoder.out_dim)
    trained = load_checkpoint(run / "checkpoints" / "last.pt")["method"]
    assert all(torch.equal(value, trained[key]) for key, value in method.state_dict().items())


def test_a_checkpoint_alone_cannot_import_code(run, tmp_path, capsys):
    saved = load_checkpoint(run / "checkpoints" / "last.pt")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')")
    saved["config"] = saved["config"].replace("imports: []", f"imports: [{tmp_path / 'evil.py'}]")
    del saved["format"]
    save_checkpoint(tmp_path / "gift.pt", saved)
    assert main(["evaluate", str(tmp_path / "gift.pt")]) == 2
    assert "names code to import" in capsys.readouterr().err
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "quikstart"], "Did you mean 'quickstart'"),
        (["train", "quickstart", "method.temprature=1"], "Did you mean 'temperature'"),
        (["train", "quickstart", "trainer.batch_size=7000", "run_dir=/nowhere/x"], "7000 is larger than the data set"),
        (["train", "./quickstart"], "no config './quickstart'"),
        (["train", "quickstart", "--resume", "run_dir=/nowhere/x"], "no run at /nowhere/x"),
        (["evaluate", "/nowhere/x"], "no run at /nowhere/x"),
        (["list", "method"], "Did you mean 'methods'"),
    ],
)
def test_user_errors_exit_with_2_and_one_message(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("ssl-lib: error: ") and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["train", "quickstart", "--rezume"], ["train", "quickstart", "--o"], ["list", "methods", "foo=bar"]],
)
def test_unknown_arguments_are_named(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_list_shows_every_kind(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in ("simclr", "resnet18", "timm/*", "fashion_mnist_mini", "lars", "ntxent", "cifar10/byol"):
        assert f"  {name}" in out
    assert main(["list", "methods"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "barlow_twins", "byol", "dino", "simclr", "simsiam", "vicreg"
    ]  # fmt: skip


def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "ssl_lib", "train", "nope"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ssl-lib: error: no config 'nope'")
