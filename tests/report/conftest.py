"""A small run with names that contain markup, shared by the report tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ssl_lib.cli.main import main
from tests.conftest import pattern_images

CLASSES = ["<script>alert(1)</script>", "a & b", '" onload="x', "</script><b>d"]


def train(folder: Path, run: Path, *changes: str) -> None:
    """Trains two steps of SimCLR on 16-pixel patterns."""
    views = "views={preset: simclr, size: 16}"
    settings = [
        "schedule={epochs: 1}",
        "trainer={batch_size: 48, log_every: 1}",
        "evaluation={knn: {k: 5, also: []}, linear: null}",
    ]
    arguments = [f"data={{name: arrays, path: {json.dumps(str(folder))}}}", views, *settings, *changes]
    assert main(["train", "quickstart", *arguments, f"run_dir={json.dumps(str(run))}"]) == 0


@pytest.fixture(scope="session")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patterns in the layout of `ssl-lib pack`, with class names that contain markup."""
    images = pattern_images()
    folder: Path = tmp_path_factory.mktemp("patterns")
    for part in ("train", "test"):
        (folder / part).mkdir()
        pixels = np.stack([images.read(i)[0].numpy() for i in range(len(images))])
        np.save(folder / part / "images.npy", pixels)
        np.save(folder / part / "labels.npy", images.labels.numpy())
        (folder / part / "classes.json").write_text(json.dumps(CLASSES))
    return folder


@pytest.fixture(scope="session")
def run(patterns: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run."""
    folder: Path = tmp_path_factory.mktemp("runs") / "<b>bold & co"
    train(patterns, folder)
    return folder


@pytest.fixture(scope="session")
def page(run: Path) -> Path:
    """The report of the run."""
    assert main(["report", str(run), "--map", "pca"]) == 0
    return run / "report.html"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(run, tmp_path / "copy"))
