"""Tests of `ssl-lib train` on folders of images: unreadable and unlabeled images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ssl_lib.cli.main import main
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
