"""The commands as a user meets them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import load_method
from ssl_lib.backbones import resnet_tiny
from ssl_lib.cli.common import config_folder
from ssl_lib.cli.describe import described
from ssl_lib.cli.list import registry_of
from ssl_lib.cli.main import main
from ssl_lib.config.convert import arguments_of
from ssl_lib.config.resolve import GIVEN
from ssl_lib.registry import KINDS
from ssl_lib.runs.files import delete_run
from ssl_lib.training.callbacks import ProgressBar
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint
from tests.fork_server import ended, fork

QUICK = [
    "schedule.epochs=0.1",
    "schedule.warmup_epochs=0",
    "backbone.width=8",
    "method.hidden_dim=16",
    "evaluation.linear.draws=1",
    "evaluation.linear.min_steps=20",
    "evaluation.knn.k=5",
]
UNMEASURED = [*QUICK, "evaluation.every_epochs=0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps on the embedded images."""
    folder = tmp_path_factory.mktemp("runs") / "quick"
    assert main(["train", "quickstart", *QUICK, f"run_dir={folder}"]) == 0
    return folder


def test_train_leaves_a_whole_run_folder(run):
    files = {"config.yaml", "environment.json", "metrics.jsonl", "diagnosis.json", "evaluation.json"}
    assert {path.name for path in run.iterdir()} == {*files, "checkpoints", ".lock"}
    assert json.loads((run / "environment.json").read_text())["torch"] == torch.__version__
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "epoch", "loss", "lr", "images_per_second", "data_wait"} <= set(lines[0])
    assert "knn" in lines[-1]
    results = json.loads((run / "evaluation.json").read_text())["results"]
    assert set(results) == {"raw pixels", "random init", "trained"}


def test_train_refuses_to_overwrite_and_says_how(run, capsys):
    assert main(["train", "quickstart", f"run_dir={run}"]) == 2
    error = capsys.readouterr().err
    assert "--resume" in error and "--overwrite" in error and "Traceback" not in error


def test_a_wrong_key_is_named_before_the_run_that_is_in_the_way(run, capsys):
    for wrong, message in (("trainer.log_evry=1", "log_every"), ("method.temprature=1", "temperature")):
        assert main(["train", "quickstart", wrong, f"run_dir={run}"]) == 2
        error = capsys.readouterr().err
        assert f"Did you mean {message!r}" in error and "holds a run" not in error


def test_a_run_whose_checkpoints_are_gone_is_not_begun_again_unasked(run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "checkpoints")
    before = (folder / "metrics.jsonl").read_bytes()
    assert main(["train", str(folder), "--resume"]) == 2
    error = capsys.readouterr().err
    assert f"the checkpoints of {folder} are gone" in error and "tells of 1 epoch" in error and "run_dir=" in error
    assert (folder / "metrics.jsonl").read_bytes() == before
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "step_00000005.pt.partial").write_bytes(b"")  # as a save that was killed leaves it
    assert main(["train", str(folder), "--resume", "evaluation.every_epochs=0"]) == 0
    assert "holds no checkpoint yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "begins"),
    [
        ([{"epoch": 1, "loss": 1.0}], True),
        ([{"epoch": 1, "loss": 1.0}, {"epoch": 1, "skipped": 2}], True),
        ([{"epoch": 0, "knn": 0.5}], True),
        ([{"epoch": 1, "knn": 0.5}], False),
        ([{"epoch": 2, "loss": 1.0}], False),
    ],
)
def test_a_run_broken_off_before_its_first_save_begins_again(lines, begins, tmp_path, capsys):
    shutil.copy(config_folder() / "quickstart.yaml", tmp_path / "config.yaml")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": 0, **line}) + "\n" for line in lines))
    bad = "trainer={save_every: 2, device: cpu, batch_size: 7000}"  # found when the run is built, after the checkpoints
    assert main(["train", str(tmp_path), "--resume", bad]) == 2
    error = capsys.readouterr().err
    assert ("holds no checkpoint yet" in error) == ("larger than the data set" in error) == begins
    assert ("are gone" in error) != begins


def test_resuming_a_finished_run_trains_no_further(run, capsys):
    before = (run / "metrics.jsonl").read_text()
    assert main(["train", str(run / "config.yaml"), "--resume", f"run_dir={run}"]) == 0
    assert (run / "metrics.jsonl").read_text() == before
    assert "this run is finished: 5 of 5 steps" in capsys.readouterr().err


def test_a_runs_folder_goes_on_wherever_it_was_moved(run, tmp_path, capsys):
    moved = tmp_path / "moved run"
    shutil.copytree(run, moved)
    assert main(["train", str(moved), "--resume"]) == 0
    out = capsys.readouterr().out
    assert f"ssl-lib evaluate '{moved}'" in out and f"from_run('{moved}')" in out


def test_a_run_with_an_alarm_ends_with_the_doctor(tmp_path, capsys):
    frozen = ["method=byol", "method.hidden_dim=16", "method.momentum=1.0", "trainer.log_every=1"]
    settings = [text for text in QUICK if not text.startswith("method")]
    assert main(["train", "quickstart", *settings, *frozen, f"run_dir={tmp_path / 'r'}"]) == 0
    first = capsys.readouterr().out.partition("The run is in ")[2].splitlines()[1].split()
    assert first[:3] == ["ssl-lib", "doctor", str(tmp_path / "r")] and " ".join(first[-2:]) == "frozen teacher"


def test_evaluate_prints_the_same_table_and_takes_overrides(run, capsys, tmp_path):
    trained = json.loads((run / "evaluation.json").read_text())["results"]
    assert main(["evaluate", str(run)]) == 0
    table = capsys.readouterr().out
    assert "raw pixels" in table and "random init" in table and "kNN (k=5)" in table
    assert f"{100 * trained['trained']['knn']:.1f}" in table
    assert json.loads((run / "evaluation.json").read_text())["results"] == trained
    other = ["evaluate", str(run / "checkpoints" / "last.pt"), "evaluation.knn.k=7", "evaluation.linear=null"]
    assert main(other) == 0
    captured = capsys.readouterr()
    assert "kNN (k=7)" in captured.out and "linear" not in captured.out
    assert "note: of changed settings evaluation.json keeps nothing; --output FILE does" in captured.err
    assert json.loads((run / "evaluation.json").read_text())["results"] == trained
    assert main([*other, "--output", str(tmp_path / "k7.json")]) == 0
    content = json.loads((tmp_path / "k7.json").read_text())
    assert content["protocols"]["knn"]["k"] == 7
    assert [content["run"], *content["changes"]] == other[1:]


def test_protocols_measured_later_stand_beside_the_earlier_ones(run, capsys):
    before = json.loads((run / "evaluation.json").read_text())
    assert main(["evaluate", str(run), "retrieval"]) == 0
    after = json.loads((run / "evaluation.json").read_text())
    assert set(after["protocols"]) == {*before["protocols"], "retrieval"}
    for row, values in before["results"].items():
        assert after["results"][row].items() > values.items() and "recall_1" in after["results"][row]
    assert main(["evaluate", str(run), "retrieval"]) == 0
    again = json.loads((run / "evaluation.json").read_text())
    assert [m["key"] for m in again["measures"]] == [m["key"] for m in after["measures"]]
    (run / "evaluation.json").write_text(json.dumps({**after, "steps": 1}))  # of weights that were trained further
    assert main(["evaluate", str(run), "retrieval"]) == 0
    assert set(json.loads((run / "evaluation.json").read_text())["protocols"]) == {"retrieval"}
    (run / "evaluation.json").write_text(json.dumps(before, indent=2))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["knn", "k=5"], "unknown key 'k'."),
        (["knn", "--data", "./no/folder"], "--data: ./no/folder is no folder, and no data set."),
        (["knn", "--data", "fashion_mnst"], "no data set. Did you mean 'fashion_mnist"),
        (["knn", "method.temperature=1"], "method.temperature cannot change any more"),
    ],
)
def test_evaluate_names_what_is_wrong(words, message, run, capsys):
    assert main(["evaluate", str(run), *words]) == 2
    assert message in capsys.readouterr().err


def test_overwrite_starts_anew_and_keeps_other_files(run, tmp_path):
    folder = tmp_path / "again"
    assert main(["train", "quickstart", *UNMEASURED, f"run_dir={folder}"]) == 0
    (folder / "notes.txt").write_text("mine")
    assert main(["train", "quickstart", *UNMEASURED, "seed=1", "--overwrite", f"run_dir={folder}"]) == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert "seed: 1" in (folder / "config.yaml").read_text()


def test_an_overwrite_that_is_broken_off_leaves_no_checkpoint_without_its_lines(tmp_path, monkeypatch):
    def unlink(path, **options):
        if path.name == "metrics.jsonl":
            raise KeyboardInterrupt
        remove(path)

    (tmp_path / "checkpoints").mkdir()
    for name in ("metrics.jsonl", "checkpoints/last.pt", "checkpoints/step_00000001.pt"):
        (tmp_path / name).touch()
    remove = Path.unlink
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        delete_run(tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_overwrite_deletes_nothing_before_the_new_run_can_start(run):
    before = sorted(path.name for path in run.rglob("*"))
    for bad in ("trainer.device=cuda:77", "optimizer.lr=-1", "evaluation.knn.k=70000"):
        assert main(["train", "quickstart", bad, f"run_dir={run}", "--overwrite"]) == 2
    assert sorted(path.name for path in run.rglob("*")) == before


def test_resume_refuses_another_config_and_leaves_the_runs_own(run, capsys):
    before = (run / "config.yaml").read_text()
    arguments = ["train", str(run), "--resume"]
    assert main([*arguments, "method.temperature=0.5", "optimizer.lr=9.0"]) == 2
    error = capsys.readouterr().err
    assert "cannot be changed or made longer" in error and f"backbone.weights={run} takes" in error
    assert "method.temperature was 0.1, is 0.5" in error and "optimizer.lr was 0.005, is 9.0" in error
    assert (run / "config.yaml").read_text() == before
    assert main([*arguments, "trainer.log_every=7", "evaluation.knn.k=3"]) == 0
    note = "note: going on with other settings: evaluation.knn.k was 5, is 3; trainer.log_every was 20, is 7\n"
    assert note in capsys.readouterr().err


@pytest.mark.parametrize("file", ["", "/checkpoints/last.pt"])
def test_a_run_begins_with_the_weights_of_another(run, file, tmp_path):
    weights = f"backbone.weights={run}{file}"
    assert main(["train", "quickstart", *UNMEASURED, "optimizer.lr=0", weights, f"run_dir={tmp_path}"]) == 0
    for key, value in load_method(tmp_path).encoder.named_parameters():
        assert torch.equal(value, load_method(run).encoder.get_parameter(key))


def test_unreadable_images_are_left_out_of_the_counts_and_listed(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(8):
                pixels = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{index}.png")
    broken = tmp_path / "train" / "b" / "5.png"
    broken.write_bytes(b"no image")
    run = tmp_path / "run"
    arguments = [f"data={{name: image_folder, root: {tmp_path}}}", "trainer.batch_size=8", "views.size=12"]
    changes = ["evaluation.linear=null", "evaluation.knn.k=3", "backbone.width=8", f"run_dir={run}"]
    epochs = ["schedule.epochs=1", "schedule.warmup_epochs=0"]
    assert main(["train", "quickstart", *arguments, *changes, *epochs]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.count(str(broken)) == 1 and "data.on_error=skip" in error
    assert main(["train", "quickstart", *arguments, *changes, *epochs, "data.on_error=skip"]) == 0
    assert f"1 unreadable image left out:\n  {broken}" in capsys.readouterr().err
    images = json.loads((run / "evaluation.json").read_text())["images"]
    assert images == {"bank": 15, "queries": 16, "skipped": 1, "size": 12, "resize": 14, "limit": None}


def test_a_failing_evaluation_costs_no_training(tmp_path, capsys):
    """A broken test image stops the run at its first evaluation; mended, the run goes on and evaluates."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(4):
                Image.new("L", (12, 12), 30 * index).save(tmp_path / split / name / f"{index}.png")
    broken = tmp_path / "val" / "a" / "2.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    run = tmp_path / "run"
    changes = [f"data={{name: image_folder, root: {tmp_path}}}", "trainer.batch_size=8", "views.size=12"]
    changes += ["evaluation={linear: null, knn: {k: 3}}", "backbone.width=8", "schedule={epochs: 2}"]
    assert main(["train", "quickstart", *changes, "evaluation.every_epochs=1", f"run_dir={run}"]) == 2
    assert str(broken) in capsys.readouterr().err
    broken.write_bytes(whole)
    assert main(["train", str(run), "--resume"]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], "knn" in line) for line in lines] == [(0, False), (0, True), (1, False), (1, True)]


def test_a_folder_of_the_name_of_a_bundled_config_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    assert main(["train", "quickstart", *UNMEASURED]) == 0
    assert list((tmp_path / "quickstart").iterdir()) == []
    assert main(["train", "runs/quickstart", "--overwrite"]) == 0


def test_evaluation_takes_fewer_images_than_a_batch(run, tmp_path):
    folder = tmp_path / "few"
    for split in ("train", "test"):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for index in range(3):
                Image.new("L", (28, 28), 30 * index).save(folder / split / name / f"{index}.png")
    data = f"data={{name: image_folder, root: {folder}, channels: 1}}"
    assert main(["evaluate", str(run), data, "evaluation={linear: null, knn: {k: 3}}"]) == 0


def test_the_weights_of_a_dino_run_are_its_teachers(tmp_path):
    changes = ["method={name: dino, hidden_dim: 16, bottleneck_dim: 8, num_prototypes: 16, momentum: 0.5}"]
    changes += ["views={preset: dino, size: 28, small_size: 12, small_count: 1}", "evaluation.every_epochs=0"]
    small = ["schedule={epochs: 0.05}", "backbone.width=8", "trainer.batch_size=32"]
    assert main(["train", "quickstart", *changes, *small, f"run_dir={tmp_path}"]) == 0
    method = load_method(tmp_path)
    loaded = resnet_tiny(in_channels=1, width=8, pool=4, weights=str(tmp_path / "checkpoints" / "last.pt"))
    for name, value in loaded.named_parameters():
        assert torch.equal(value, method.encoder.get_parameter(name))
    assert not torch.equal(loaded.conv1.weight, method.backbone.conv1.weight)


def test_images_without_labels_train_and_the_next_step_is_no_evaluation(tmp_path, capsys):
    for index in range(8):
        Image.new("L", (12, 12), 30 * index).save(tmp_path / f"{index}.png")
    arguments = [f"data={{name: image_folder, root: {tmp_path}}}", "trainer.batch_size=8", "views.size=12"]
    run = tmp_path / "run"
    epochs = ["schedule.epochs=1", "schedule.warmup_epochs=0", f"run_dir={run}"]
    assert main(["train", "quickstart", *arguments, *epochs, "backbone.width=8"]) == 0
    captured = capsys.readouterr()
    assert "ssl-lib list data image_folder" in captured.err
    assert f"TrainedBackbone.from_run('{run}')" in captured.out and "ssl-lib evaluate" not in captured.out


def test_a_run_folder_that_cannot_be_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["train", "quickstart", *QUICK, f"run_dir={tmp_path / 'file' / 'run'}"]) == 2
    assert f"run_dir: cannot write to {tmp_path / 'file' / 'run'}: Not a directory" in capsys.readouterr().err


def test_a_method_without_a_backbone_is_named(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nfrom ssl_lib import METHODS, Method, StepOutput\n"
        "@METHODS.register('nobody')\nclass Nobody(Method):\n"
        "    def __init__(self, backbone):\n        super().__init__()\n        self.net = backbone\n"
        "    def forward(self, views, progress):\n        return StepOutput(self.net(views.large[0]).mean())\n"
    )
    arguments = [f"imports=['{tmp_path}/mine.py']", "method=nobody", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", "quickstart", *arguments]) == 2
    assert "Nobody must set self.backbone" in capsys.readouterr().err


def test_an_output_that_is_a_folder_is_refused_before_the_work(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--output", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "is a folder; give a file" in captured.err and not captured.out
    for command in (["evaluate", str(run), "--output"], ["report", str(run), "-o"], ["compare", str(run), "-o"]):
        assert main([*command, f"{run}/config.yaml/file"]) == 2
        captured = capsys.readouterr()
        assert "file cannot be written (Not a directory): name another" in captured.err and not captured.out


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    """As `ssl-lib list | head -1`; the pipe is too short for what is left."""
    out, err = tmp_path / "out", tmp_path / "err"
    os.mkfifo(out)
    listing = fork(main, ["list"], out=out, err=err)
    with open(out, "rb", buffering=0) as pipe:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        assert pipe.readline() == b"methods:\n"
    assert ended(listing) == 141 and not err.read_text()


def test_a_run_that_nobody_reads_any_more_does_not_pass_for_a_finished_one(tmp_path):
    err = tmp_path / "err"
    os.mkfifo(err)
    run = fork(main, ["train", "quickstart", *QUICK, f"run_dir={tmp_path / 'run'}"], out=Path(os.devnull), err=err)
    open(err).close()
    assert ended(run) == 141


def test_interrupted_before_the_first_checkpoint(tmp_path, monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "on_update", interrupt)
    assert main(["train", "quickstart", *UNMEASURED, f"run_dir={tmp_path}"]) == 130
    assert "nothing was saved yet" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["train", str(tmp_path), "--resume"]) == 0
    assert "holds no checkpoint yet: the run begins again" in capsys.readouterr().err


def test_a_config_of_the_users_own_is_not_written_over(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    text = "# mine\n" + (config_folder() / "quickstart.yaml").read_text() + f"run_dir: {tmp_path}\n"
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
        (["train", "./quickstart"], "no config or run './quickstart'"),
        (["train", "quickstart", "--resume", "run_dir=/nowhere/x"], "no run at /nowhere/x"),
        (["train", "/nowhere/x", "--resume"], "no run '/nowhere/x' to go on with: there is no such folder"),
        (["train", "quickstart", "trainer.device=cuda:99"], "there is no device 'cuda:99': torch finds "),
        (
            ["train", "quickstart", "trainer.batch_size=33", "trainer.accumulate=2"],
            "the nearest that can are 32 and 34",
        ),
        (["train", "quickstart", "trainer.batch_size=1", "trainer.accumulate=2"], "the nearest that can is 2"),
        (["evaluate", "/nowhere/x"], "no run at /nowhere/x"),
        (["list", "method"], "Did you mean 'methods'"),
        (["list", "methods", "simcrl"], "Did you mean 'simclr'"),
        (
            ["train", "quickstart", "method.name=byol"],
            "byol takes hidden_dim, out_dim, momentum; simclr would take projector_layers",
        ),
        (["train", "quickstart", "schedule.epochs=1"], "shorten the warmup with the run"),
        (["train", "quickstart", "trainer.batch_size=1"], "see trainer.batch_size"),
        (["train", "quickstart", "views.size=1000000"], "allocate"),
        (["train", "quickstart", "batch_size=64"], "Did you mean 'trainer.batch_size'"),
        (["train", "quickstart", "epochs=1"], "Did you mean 'schedule.epochs'"),
        (["train", "quickstart", "optimizer.momentum=0.9"], "lars, sgd would take momentum"),
        (["train", "/usr"], "/usr is a folder without a config.yaml"),
    ],
)
def test_user_errors_exit_with_2_and_one_message(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("ssl-lib: error: ") and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone.width=16", "backbone.width cannot change any more"),
        ("views.size=32", "set evaluation.image_size"),
        ("evaluation.knn.k=0", "k must be at least 1"),
    ],
)
def test_evaluate_refuses_what_the_weights_depend_on(run, override, message, capsys):
    assert main(["evaluate", str(run), override]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["train", "quickstart", "--rezume"], ["train", "quickstart", "--o"], ["list", "methods", "simclr", "foo=bar"]],
)
def test_unknown_arguments_are_named(arguments, capsys):
    assert main(arguments) == 2
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


def test_dashes_before_a_key_are_explained(capsys):
    for words in (["--trainer.batch_size=3"], ["--trainer.batch_size", "3"]):
        assert main(["train", "quickstart", *words]) == 2
        right = "settings have no dashes: ssl-lib train quickstart trainer.batch_size=3\n"
        assert capsys.readouterr().err.endswith(right)


def test_list_shows_a_parts_arguments(capsys):
    assert main(["list", "methods", "simclr"]) == 0
    out = capsys.readouterr().out
    assert "arXiv:2002.05709" in out and "  temperature: float = 0.1\n" in out
    assert "  backbone" not in out.split("arguments:")[1]
    assert main(["list", "data", "image_folder"]) == 0
    out = capsys.readouterr().out
    assert "bank_root: str | Path | None = None" in out and "  split:" not in out.split("arguments:")[1]
    assert main(["list", "views", "dino"]) == 0
    assert "small_size: int = 96" in (out := capsys.readouterr().out) and "solarize_p" in out
    assert main(["list", "backbones", "resnet18"]) == 0
    assert '"small" keeps them' in capsys.readouterr().out
    assert main(["list", "data", "fashion_mnist_mini"]) == 0
    assert capsys.readouterr().out.endswith("arguments: none\n")
    assert main(["list", "backbones", "timm/vit_small"]) == 0
    assert "pretrained: bool = False" in capsys.readouterr().out
    assert main(["list", "configs", "quickstart"]) == 0
    assert capsys.readouterr().out == (config_folder() / "quickstart.yaml").read_text()


@pytest.mark.parametrize("kind", [*KINDS, "losses"])
def test_every_argument_of_every_part_has_a_meaning(kind):
    registry = registry_of(kind)
    for name in registry:
        about, meanings = described(registry[name])
        assert about and "Args:" not in about
        for argument in arguments_of(registry[name], GIVEN.get(registry, ())):
            assert meanings.get(argument), f"{name}: {argument}"
            assert not meanings[argument].startswith("See "), f"{name}: {argument}"


def test_only_what_must_be_given_is_called_required(capsys):
    for command in ("train", "evaluate", "replay"):
        with pytest.raises(SystemExit):
            main([command])
        error = capsys.readouterr().err
        assert "required: " in error and "key=value" not in error.split("required: ")[1]


def test_parts_of_an_epoch_are_counted_in_steps(run, capsys):
    assert main(["train", str(run), "--resume"]) == 0
    assert ", 5 steps, 46 to an epoch, " in capsys.readouterr().err


def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "ssl_lib", "train", "nope"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ssl-lib: error: no config or run 'nope'")


def test_commands_of_one_process_are_refused_in_several(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["list"]) == 2
    assert "only train and evaluate run in several processes" in capsys.readouterr().err
