"""What `train` and `doctor` print at their end: the verdict, metrics out of range, and commands that work."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from ssl_lib.cli.main import main
from tests.cli.conftest import SHORT, error_of, stdout_of, write_class_folders
from tests.training.helpers import write_run


def commands_in(out):
    return [shlex.split(line, comments=True)[1:] for line in out.splitlines() if line.startswith("  ssl-lib ")]


@pytest.fixture(scope="module")
def unlabeled(tmp_path_factory):
    """A folder of images without labels."""
    folder = tmp_path_factory.mktemp("unlabeled") / "some photos"
    folder.mkdir()
    for index in range(16):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_commands_after_training_without_labels_work(unlabeled, tmp_path, capsys, monkeypatch):
    """Both `train` and `doctor` name them; only the report's first step differs."""
    write_class_folders(tmp_path / "labeled images", count=10)
    monkeypatch.chdir(tmp_path)
    data = f"data={{name: image_folder, root: '{unlabeled}'}}"
    trainer = "trainer={batch_size: 8, workers: 0, device: cpu}"
    changes = [data, trainer, "views={preset: simclr, size: 16}", *SHORT, "schedule.epochs=2", "run_dir=my run"]
    out = stdout_of(capsys, "train", "quickstart", *changes)
    assert "The trained weights are not evaluated: the data have no labeled training and test images.\n" in out
    commands = commands_in(out)
    doctor = commands_in(stdout_of(capsys, "doctor", "my run"))
    assert {words[0] for words in doctor} == {"embed", "nearest", "evaluate"} <= {words[0] for words in commands}
    assert [words for words in commands if words[0] in ("embed", "nearest", "evaluate")] == doctor
    assert "LABELED_IMAGES is a folder with `train` and `val` (or `test`) inside, each with a folder per class." in out
    for words in commands:
        assert main([word.replace("LABELED_IMAGES", "labeled images") for word in words]) == 0, words
    assert (tmp_path / "my run" / "evaluation.json").exists()
    code = re.search(r"ssl_lib\.(TrainedBackbone\.from_run\('my run'\))", out)
    assert code


def test_commands_after_training_with_labels_work_and_the_verdict_compares_with_the_baselines(run, capsys):
    out = stdout_of(capsys, "doctor", run)
    table = stdout_of(capsys, "evaluate", run, "knn")
    raw, random, trained = map(float, re.search(r"kNN \(k=5\) +([\d.]+) % +([\d.]+) % +([\d.]+) %", table).groups())
    noise = r"(?: \(within noise\))?"
    gaps = rf"([\d.]+) points (above|below) raw pixels{noise} and ([\d.]+) points"
    text = re.search(rf"kNN \(k=5\) ([\d.]+) %, {gaps}", out)
    assert text and float(text[1]) == trained and text[3] == ("above" if trained >= raw else "below")
    assert float(text[2]) == pytest.approx(abs(trained - raw), abs=0.11)  # of rounded percentages
    assert float(text[4]) == pytest.approx(abs(trained - random), abs=0.11)
    assert ["evaluate", str(run), "logistic", "retrieval", "spectrum"] in commands_in(out)


def test_metric_out_of_range_is_mentioned_without_an_alarm(tmp_path, capsys):
    lines = [{"step": step, "epoch": 0, "loss": 2.0, "view_distance": 0.5} for step in range(8)]
    write_run(tmp_path, [*lines, {"step": 8, "epoch": 0, "loss": 4.2, "view_distance": 0.9}], chance_loss=4.0)
    out = stdout_of(capsys, "doctor", tmp_path)
    assert "no alarm after 9 of" in out
    assert "! out of the healthy range: loss 4.2 (0 to 4), view_distance 0.9 (0 to 0.85); an alarm is raised" in out


@pytest.mark.parametrize("folder", ["flat", "empty"])
def test_evaluate_says_how_the_folder_must_look_and_what_it_holds(folder, run, tmp_path, capsys):
    (tmp_path / folder).mkdir()
    if folder == "flat":
        for index in range(8):
            Image.new("L", (8, 8), index).save(tmp_path / folder / f"{index}.png")
    error = error_of(capsys, "evaluate", run, "knn", "--data", tmp_path / folder)
    if folder == "flat":
        assert "`train` and `val` (or `test`) inside, each with a folder per class, such as train/cat/1.jpg" in error
        assert "it holds 0.png, 1.png, 2.png, 3.png, 4.png, 5.png, ..." in error
    else:
        assert "no images in this folder" in error
    assert "a folder with `train` and `val`" in error_of(capsys, "evaluate", run, "--data", tmp_path / "nowhere")
