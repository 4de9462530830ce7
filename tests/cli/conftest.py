"""Fixtures and helpers shared by the tests of the commands: trained runs, embeddings, and folders of images."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from ssl_lib import data
from ssl_lib.cli.main import main

QUICK = [
    "schedule.epochs=0.05",
    "schedule.warmup_epochs=0",
    "backbone.width=8",
    "method.hidden_dim=16",
    "evaluation.knn=null",
    "evaluation.linear=null",
]


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory):
    """The folder of a short `quickstart` run."""
    folder = tmp_path_factory.mktemp("runs") / "quick"
    assert main(["train", "quickstart", *QUICK, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """40 images in the classes `bag` and `boot`; the first three of `bag` are also in `boot`."""
    root = tmp_path_factory.mktemp("data") / "photos"
    images = data.fashion_mnist_mini(split="test")
    for name in ("bag", "boot"):
        (root / name).mkdir(parents=True)
    for index in range(40):
        Image.fromarray(images.read(index)[0].numpy()).save(root / ("bag", "boot")[index % 2] / f"{index:02}.png")
    for index in (0, 2, 4):
        Image.fromarray(images.read(index)[0].numpy()).save(root / "boot" / f"{index:02}.png")
    return root


@pytest.fixture(scope="session")
def table(quick_run, photos):
    """The file with the embeddings of `photos`."""
    target = photos.parent / "e.npz"
    assert main(["embed", str(quick_run), "-o", str(target), str(photos), "--workers", "0", "--batch-size", "8"]) == 0
    return target


SHORT = [
    "schedule.epochs=0.1",
    "schedule.warmup_epochs=0",
    "backbone.width=8",
    "method.hidden_dim=16",
    "evaluation.linear.draws=1",
    "evaluation.linear.min_steps=20",
    "evaluation.knn.k=5",
]
"""Changes to `quickstart` for a run of 5 steps."""

WITHOUT_EVALUATION = [*SHORT, "evaluation.every_epochs=0"]


@pytest.fixture(scope="session")
def evaluated_run(tmp_path_factory):
    """The folder of a `quickstart` run of 5 steps with an evaluation. Tests must not change it; see `run`."""
    folder = tmp_path_factory.mktemp("runs") / "evaluated"
    assert main(["train", "quickstart", *SHORT, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def run(evaluated_run, tmp_path_factory):
    """A copy of `evaluated_run`, which the test may change."""
    return shutil.copytree(evaluated_run, tmp_path_factory.mktemp("runs") / "run")


def write_class_folders(root, splits=("train", "val"), count=4, size=12):
    """Writes `count` gray images of different brightness per split into each of the class folders `a` and `b`."""
    for split in splits:
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                Image.new("L", (size, size), 30 * index).save(root / split / name / f"{index}.png")


def logged_lines(run):
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def results_of(run):
    """The content of a run's evaluation.json."""
    return json.loads((run / "evaluation.json").read_text())


def stdout_of(capsys, *command):
    """Runs a command, requires success and returns its stdout."""
    capsys.readouterr()
    assert main(list(map(str, command))) == 0
    return capsys.readouterr().out


def error_of(capsys, *command):
    """Runs a command, requires a user error without traceback and returns its stderr."""
    capsys.readouterr()
    try:
        code = main(list(map(str, command)))
    except SystemExit as end:  # raised by argparse
        code = end.code
    assert code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error
