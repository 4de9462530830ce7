"""The report of a run with missing or damaged files, without labels, or with NaN weights."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from ssl_lib.cli.main import main
from ssl_lib.doctor import diagnose
from ssl_lib.report.records import Missing, read_metrics
from ssl_lib.training.checkpoint import save_checkpoint
from tests.report.conftest import train
from tests.report.page import report_page


def test_interrupted_run_shows_its_progress(copy):
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text(lines[0])
    for name in ("checkpoints", "evaluation.json"):
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = report_page(copy).text()
    assert "Training is incomplete and not yet evaluated" in text and "1 of 2 steps completed." in text
    assert "too early to tell" in text


def test_nan_and_infinity_are_marked_in_charts(copy):
    path = copy / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["loss"], lines[1]["lr"] = float("nan"), float("inf")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 7, "lo')
    parsed = report_page(copy)
    assert sum(a.get("class") == "bad" for name, a in parsed.elements if name == "path") == 2
    assert ("output", "not finite") in parsed.texts


def test_run_that_has_just_started_names_its_missing_files(copy):
    for name in ("metrics.jsonl", "evaluation.json", "environment.json"):
        (copy / name).unlink()
    shutil.rmtree(copy / "checkpoints")
    parsed = report_page(copy)
    text = parsed.text()
    for reason in (
        "Training has just started",
        "There is no metrics.jsonl",
        "There is no evaluation.json",
        "no environment.json",
        "no metrics.jsonl",
        "no run at",
    ):
        assert reason in text
    assert ["method.projector_layers", "1", "3"] in parsed.rows
    (copy / "metrics.jsonl").write_text("")
    (copy / "config.yaml").write_text("a: [")
    text = report_page(copy).text()
    assert "metrics.jsonl is empty" in text and f"cannot read {copy / 'config.yaml'}" in text


def test_damaged_files_are_named(copy):
    (copy / "diagnosis.json").write_text("{}")
    (copy / "evaluation.json").write_text("[]")
    (copy / "environment.json").write_text("7")
    text = report_page(copy).text()
    for reason in ("diagnosis.json is damaged", "evaluation.json is damaged", "environment.json is damaged"):
        assert reason in text
    (copy / "metrics.jsonl").write_text('{"step": 0, "epoch": 0}\n{broken\n{"step": 2}\n')
    assert "metrics.jsonl is damaged in line 2" in report_page(copy).text()
    assert isinstance(read_metrics(copy), Missing)


def test_findings_of_the_doctor_are_shown(copy):
    assert "Doctor found no problems" in report_page(copy).text()
    line = json.loads((copy / "metrics.jsonl").read_text().splitlines()[0])
    lines = [{**line, "step": step, "feature_std": 1e-9} for step in range(60)]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    findings = diagnose(copy).findings
    (copy / "evaluation.json").unlink()
    text = report_page(copy).text()
    assert f"Problem found: {findings[0].name}" in text
    assert findings
    for finding in findings:
        start = f"{finding.name} since step {finding.step}: {finding.seen}."
        expected = f"{start} Likely cause: {finding.cause}. Fix: {finding.cure}."
        assert " ".join(expected.split()) in text


def test_nan_weights_are_reported(copy):
    path = copy / "checkpoints" / "last.pt"
    saved = torch.load(path, weights_only=True)
    name = next(name for name in saved["method"] if name.startswith("backbone") and name.endswith("weight"))
    saved["method"][name].fill_(float("nan"))
    save_checkpoint(path, saved)
    text = report_page(copy).text()
    assert "the encoder returns NaN or infinity" in text and "Try an earlier checkpoint" in text


def test_moved_images_are_found_with_an_override(patterns, tmp_path):
    moved = shutil.copytree(patterns, tmp_path / "there")
    train(moved, tmp_path / "run")
    moved.rename(tmp_path / "elsewhere")
    text = report_page(tmp_path / "run").text()
    assert "could not be loaded" in text and "there" in text
    assert "could not be loaded" not in report_page(tmp_path / "run", f"data.path={tmp_path / 'elsewhere'}").text()


def test_unlabeled_images_are_shown_without_classes(patterns, tmp_path):
    np.save(tmp_path / "images.npy", np.load(patterns / "train" / "images.npy", allow_pickle=False))
    train(
        patterns,
        tmp_path / "run",
        f"data={{name: arrays, path: {tmp_path / 'images.npy'}}}",
        "evaluation.every_epochs=0",
    )
    parsed = report_page(tmp_path / "run")
    assert "The images have no labels" in parsed.text() and "96 training images" in parsed.text()
    assert "Trained but not yet evaluated" in parsed.text() and "--data LABELED_IMAGES" in parsed.text()
    assert sum(name == "use" for name, _ in parsed.elements) == 2 * 96


def test_run_of_a_script_has_no_config(copy):
    (copy / "config.yaml").unlink()
    saved = torch.load(copy / "checkpoints" / "last.pt", weights_only=True)
    shutil.rmtree(copy / "checkpoints")
    save_checkpoint(copy / "checkpoints" / "last.pt", {**saved, "config": None})
    parsed = report_page(copy)
    text = parsed.text()
    assert "trained by a script" in text and text.count("saved by a script, without a config") == 1
    links = {a["href"] for name, a in parsed.elements if name == "a"}
    assert "#features" in links and not links & {"#spectrum", "#map", "#neighbors", "#views", "#tokens"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no run at nowhere: it is neither a folder nor a checkpoint file"),
        (["."], "no run at .: it holds none of config.yaml"),
        (["RUN", "-o", "."], ". is a folder; give a file"),
    ],
)
def test_paths_that_are_not_runs_or_files_raise(arguments, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(str(run) if word == "RUN" else word for word in arguments)]) == 2
    assert message in capsys.readouterr().err
