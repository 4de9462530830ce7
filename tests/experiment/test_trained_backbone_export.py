"""Tests of `ssl-lib export` on a trained run."""

from __future__ import annotations

import json
import shutil

from ssl_lib import TrainedBackbone
from ssl_lib.cli.main import main
from tests.experiment.conftest import SMALL


def test_export_writes_into_the_run_folder_and_reports_the_evaluation(run, capsys):
    assert main(["export", str(run), "--to", "torch_export"]) == 0
    out, error = capsys.readouterr()
    path = run / "export" / "backbone.pt2"
    assert f"teacher of dino after 2 steps: {path}" in error and f'torch.export.load("{path}")' in out
    results = json.loads((run / "evaluation.json").read_text())["results"]
    rows = ("raw pixels", "random init", "trained")
    card = " ".join((run / "export" / "backbone.pt2.md").read_text().split())
    assert "raw pixels random init trained " in card
    assert "kNN (k=2) " + " ".join(f"{100 * results[row]['knn']:.1f} %" for row in rows) in card
    assert main(["export", str(run), "--to", "torch_export", "--part", "student", "-o", str(run / "s.pt2")]) == 0
    assert "These weights have not been evaluated" in (run / "s.pt2.md").read_text()
    assert json.loads((run / "s.pt2.json").read_text())["part"] == "student"


def test_evaluation_of_another_step_is_not_exported(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "steps": 1}))
    assert TrainedBackbone.from_run(tmp_path / "run").origin["evaluation"] is None


def test_export_refuses_bad_formats_and_paths(run, capsys):
    for arguments, message in (
        (["--to", "torchvision"], "torchvision has no network resnet_tiny; formats that support this backbone: safet"),
        (["--to", "torchscript"], "unknown export format 'torchscript'. Did you mean 'torch_export'?"),
        (["--to", "torch_export", "-o", str(run)], f"{run} is a folder: torch_export writes a file"),
    ):
        assert main(["export", str(run), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_export_notes_that_the_library_has_another_stem(folder, tmp_path, capsys):
    settings = [
        f"data={{name: image_folder, root: {folder}}}",
        "backbone={name: resnet18, stem: small}",
        "method.hidden_dim=8",
        "evaluation={knn: null, linear: null}",
    ]
    assert main(["train", "quickstart", *SMALL, "schedule.epochs=0.5", *settings, f"run_dir={tmp_path}"]) == 0
    capsys.readouterr()
    assert main(["export", str(tmp_path), "--to", "torchvision"]) == 0
    out, error = capsys.readouterr()
    assert "note: torchvision's resnet18 has another stem" in error and "net.maxpool = torch.nn.Identity()" in out
