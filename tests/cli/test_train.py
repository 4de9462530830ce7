"""Tests of `ssl-lib train`: new runs, existing run folders, and initial weights; see also `test_train_resume.py`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssl_lib import load_method
from ssl_lib.backbones import resnet_tiny
from ssl_lib.cli.common import config_folder
from ssl_lib.cli.main import main
from ssl_lib.training.checkpoint import load_checkpoint
from tests.cli.conftest import SHORT, WITHOUT_EVALUATION, error_of, logged_lines, results_of, stdout_of

ROOT = Path(__file__).parents[2]


def test_train_writes_all_files_of_a_run(evaluated_run):
    files = {"config.yaml", "environment.json", "metrics.jsonl", "diagnosis.json", "evaluation.json"}
    assert {path.name for path in evaluated_run.iterdir()} == {*files, "checkpoints", ".lock"}
    assert json.loads((evaluated_run / "environment.json").read_text())["torch"] == torch.__version__
    lines = logged_lines(evaluated_run)
    assert {"step", "epoch", "loss", "lr", "images_per_second", "data_wait"} <= set(lines[0])
    assert "knn" in lines[-1]
    assert set(results_of(evaluated_run)["results"]) == {"raw pixels", "random init", "trained"}


def test_train_refuses_an_existing_run_and_names_the_options(run, capsys):
    error = error_of(capsys, "train", "quickstart", f"run_dir={run}")
    assert "already holds a run" in error and "--resume" in error and "--overwrite" in error


@pytest.mark.parametrize(
    ("change", "key"), [("trainer.log_evry=1", "trainer.log_every"), ("method.temprature=1", "method.temperature")]
)
def test_unknown_key_is_reported_before_the_existing_run(change, key, run, capsys):
    error = error_of(capsys, "train", "quickstart", change, f"run_dir={run}")
    assert f"Did you mean {key!r}" in error and "holds a run" not in error


def test_run_dir_below_a_file_is_reported(tmp_path, capsys):
    (tmp_path / "file").touch()
    error = error_of(capsys, "train", "quickstart", *SHORT, f"run_dir={tmp_path / 'file' / 'run'}")
    assert f"run_dir: cannot write to {tmp_path / 'file' / 'run'}: Not a directory" in error


def test_method_without_a_backbone_is_reported(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nfrom ssl_lib import METHODS, Method, StepOutput\n"
        "@METHODS.register('no_backbone')\nclass NoBackbone(Method):\n"
        "    def __init__(self, backbone):\n        super().__init__()\n        self.net = backbone\n"
        "    def forward(self, views, progress):\n        return StepOutput(self.net(views.large[0]).mean())\n"
    )
    changes = [f"imports=['{tmp_path}/mine.py']", "method=no_backbone", f"run_dir={tmp_path / 'run'}"]
    assert "NoBackbone must set self.backbone" in error_of(capsys, "train", "quickstart", *changes)


def test_run_does_not_overwrite_the_config_it_was_started_with(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    text = f"# mine\n{(config_folder() / 'quickstart.yaml').read_text()}run_dir: {tmp_path}\n"
    config.write_text(text)
    assert "choose another run_dir" in error_of(capsys, "train", config)
    assert config.read_text() == text


def test_bundled_config_is_preferred_to_an_empty_folder_of_its_name():
    Path("quickstart").mkdir()
    assert main(["train", "quickstart", *WITHOUT_EVALUATION]) == 0
    assert list(Path("quickstart").iterdir()) == []
    assert main(["train", "runs/quickstart", "--overwrite"]) == 0


def test_overwrite_starts_again_and_keeps_other_files(run):
    (run / "notes.txt").write_text("mine")
    assert main(["train", "quickstart", *WITHOUT_EVALUATION, "seed=1", "--overwrite", f"run_dir={run}"]) == 0
    assert (run / "notes.txt").read_text() == "mine"
    assert "seed: 1" in (run / "config.yaml").read_text()
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize("change", ["trainer.device=cuda:77", "optimizer.lr=-1", "evaluation.knn.k=70000"])
def test_overwrite_deletes_nothing_if_the_new_run_cannot_start(change, run, capsys):
    before = sorted(path.name for path in run.rglob("*"))
    error_of(capsys, "train", "quickstart", change, f"run_dir={run}", "--overwrite")
    assert sorted(path.name for path in run.rglob("*")) == before


FAILING = """
import dataclasses
from ssl_lib.registry import PROTOCOLS

@PROTOCOLS.register("failing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Failing:
    measures = ()

    def check(self, bank_labels):
        pass

    def __call__(self, subject):
        raise ValueError("the features have no neighbors")
"""


@pytest.mark.parametrize(("epochs", "end"), [(1, "training is finished and saved"), (2, "run is saved, resume with")])
def test_error_of_a_protocol_names_it_and_the_command_that_continues(epochs, end, tmp_path, capsys):
    (tmp_path / "failing_protocol.py").write_text(FAILING)
    run = tmp_path / "run"
    changes = [f"imports=[{tmp_path / 'failing_protocol.py'}]", "evaluation={knn: null, linear: null, failing: {}}"]
    settings = ["trainer.batch_size=3000", f"schedule={{epochs: {epochs}}}", "evaluation.every_epochs=1"]
    small = ["backbone.width=8", "method.hidden_dim=16", f"run_dir={run}"]
    error = error_of(capsys, "train", "quickstart", *changes, *settings, *small)
    assert f"ssl-lib: error: evaluation.failing, raw pixels: the features have no neighbors; the {end}" in error
    command = ["evaluate", str(run)] if epochs == 1 else ["train", str(run), "--resume"]
    assert f"ssl-lib {shlex.join(command)}" in error
    assert load_checkpoint(run / "checkpoints" / "last.pt")["step"] == 2
    again = ["knn"] if epochs == 1 else ["evaluation.failing=null", "evaluation.knn={k: 5}"]
    assert main([*command, *again]) == 0 and "kNN" in capsys.readouterr().out


def test_run_with_a_finding_suggests_the_doctor_first(tmp_path, capsys):
    frozen = ["method=byol", "method.hidden_dim=16", "method.momentum=1.0", "trainer.log_every=1"]
    settings = [text for text in SHORT if not text.startswith("method")]
    out = stdout_of(capsys, "train", "quickstart", *settings, *frozen, f"run_dir={tmp_path / 'run'}")
    first = out.partition("\nNext:\n")[2].splitlines()[0].split()
    assert first[:3] == ["ssl-lib", "doctor", str(tmp_path / "run")] and " ".join(first[-2:]) == "frozen teacher"


@pytest.mark.parametrize("file", ["", "/checkpoints/last.pt"])
def test_run_starts_from_the_weights_of_another_run(file, run, tmp_path):
    weights = f"backbone.weights={run}{file}"
    assert main(["train", "quickstart", *WITHOUT_EVALUATION, "optimizer.lr=0", weights, f"run_dir={tmp_path}"]) == 0
    trained = load_method(run).encoder
    for name, value in load_method(tmp_path).encoder.named_parameters():
        assert torch.equal(value, trained.get_parameter(name))


def test_weights_of_a_dino_run_are_the_weights_of_its_teacher(tmp_path):
    changes = [
        "method={name: dino, hidden_dim: 16, bottleneck_dim: 8, num_prototypes: 16, momentum: 0.5}",
        "views={preset: dino, size: 28, small_size: 12, small_count: 1}",
        "schedule={epochs: 0.05}",
        "backbone.width=8",
        "trainer.batch_size=32",
        "evaluation.every_epochs=0",
    ]
    assert main(["train", "quickstart", *changes, f"run_dir={tmp_path}"]) == 0
    method = load_method(tmp_path)
    loaded = resnet_tiny(in_channels=1, width=8, pool=4, weights=str(tmp_path / "checkpoints" / "last.pt"))
    for name, value in loaded.named_parameters():
        assert torch.equal(value, method.encoder.get_parameter(name))
    assert not torch.equal(loaded.conv1.weight, method.backbone.conv1.weight)


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&1 >/dev/null | true"])
def test_run_whose_stderr_cannot_be_written_is_trained_to_its_end(redirection, tmp_path):
    run = tmp_path / "run"
    words = ["train", "quickstart", *WITHOUT_EVALUATION, f"run_dir={run}"]
    command = f"set -o pipefail; {shlex.join([sys.executable, '-m', 'ssl_lib', *words])} {redirection}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr
    assert load_checkpoint(run / "checkpoints" / "last.pt")["step"] == 5
