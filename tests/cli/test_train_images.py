"""Tests of `ssl-lib train` on folders of images: unreadable and unlabeled images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_lib.cli.main import main
from ssl_lib.data.base import DataWarning
from tests.cli.conftest import error_of, logged_lines, results_of, write_class_folders


def write_random_images(root, count):
    """Writes `count` color images of 12 x 12 random pixels to a folder."""
    generator = np.random.default_rng(len(str(root)))
    root.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(root / f"{index}.png")


def train_command(images: Path, run: Path, *changes: str) -> list[str]:
    """The command that trains a small network on a folder of images of 12 x 12 pixels."""
    settings = ["trainer.batch_size=8", "views.size=12", "backbone.width=8", "schedule={epochs: 1}"]
    evaluation = "evaluation={linear: null, knn: {k: 3}}"
    data = f"data={{name: image_folder, root: {images}}}"
    return ["train", "quickstart", data, *settings, evaluation, f"run_dir={run}", *changes]


def test_unreadable_images_are_skipped_counted_and_listed(tmp_path, capsys):
    for split in ("train", "val"):
        for name in ("a", "b"):
            write_random_images(tmp_path / "data" / split / name, 8)
    broken, run = tmp_path / "data" / "train" / "b" / "5.png", tmp_path / "run"
    broken.write_bytes(b"no image")
    error = error_of(capsys, *train_command(tmp_path / "data", run)).strip().splitlines()[-1]
    assert error.count(str(broken)) == 1 and "data.on_error=skip" in error
    assert main(train_command(tmp_path / "data", run, "data.on_error=skip")) == 0
    assert f"1 unreadable image left out:\n  {broken}" in capsys.readouterr().err
    expected = {"bank": 15, "queries": 16, "skipped": 1, "size": 12, "resize": 14, "limit": None}
    assert results_of(run)["images"] == expected


def test_run_resumes_after_an_evaluation_that_failed(tmp_path, capsys):
    write_class_folders(tmp_path / "data")
    broken, run = tmp_path / "data" / "val" / "a" / "2.png", tmp_path / "run"
    content = broken.read_bytes()
    broken.write_bytes(b"no image")
    changes = ["schedule={epochs: 2}", "evaluation.every_epochs=1"]
    assert str(broken) in error_of(capsys, *train_command(tmp_path / "data", run, *changes))
    broken.write_bytes(content)
    assert main(["train", str(run), "--resume"]) == 0
    evaluated = [(line["step"], "knn" in line) for line in logged_lines(run)]
    assert evaluated == [(0, False), (0, True), (1, False), (1, True)]


def test_run_on_unlabeled_images_suggests_an_evaluation_only_on_labeled_ones(tmp_path, capsys):
    write_random_images(tmp_path / "images", 8)
    assert main(train_command(tmp_path / "images", tmp_path / "run")) == 0
    captured = capsys.readouterr()
    assert "ssl-lib list data image_folder" in captured.err
    assert f"TrainedBackbone.from_run('{tmp_path / 'run'}')" in captured.out
    evaluations = [line for line in captured.out.splitlines() if "ssl-lib evaluate" in line]
    assert len(evaluations) == 1 and " --data LABELED_IMAGES " in evaluations[0]


def test_a_folder_of_images_is_trained_on_with_the_config_for_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_random_images(tmp_path / "my photos" / name, 10)
    small = ["trainer.batch_size=8", "views.size=12", "schedule={epochs: 1}", "backbone.stem=small"]
    changes = [*small, "evaluation={linear: null, knn: {k: 3}}", "data.hold_out=0.2"]
    with pytest.warns(DataWarning, match="my photos: no labeled test split, so 4 of 20 images"):
        assert main(["train", "my photos", *changes]) == 0
    run = tmp_path / "runs" / "my photos"
    assert results_of(run)["images"]["bank"] == 16
    config = (run / "config.yaml").read_text()
    assert "root: my photos" in config and "name: simclr" in config and "name: resnet18" in config
    assert main(["train", "my photos", *changes, "--resume"]) == 0
    assert main(["train", "./my photos/a", *small, "run_dir=here", "data.channels=1"]) == 0
    assert (tmp_path / "here" / "config.yaml").exists()
    capsys.readouterr()
    assert "no config" not in error_of(capsys, "train", "my photos", "views.sizes=3")
    for folder in ("runs", "empty"):
        (tmp_path / folder).mkdir(exist_ok=True)
        assert f"{folder} is a folder without a config.yaml and without images" in error_of(capsys, "train", folder)
