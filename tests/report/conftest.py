"""A small run whose names are hostile, shared by the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ssl_lib.cli.main import main
from tests.conftest import pattern_images

CLASSES = ["<script>alert(1)</script>", "a & b", '" onload="x', "</script><b>d"]


def train(folder: Path, run: Path, *changes: str) -> None:
    """Two updates of SimCLR on patterns of 16 pixels."""
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
    """The patterns as `ssl-lib pack` would lay them down, in classes with hostile names."""
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
    """The run's folder."""
    folder: Path = tmp_path_factory.mktemp("runs") / "<b>bold & co"
    train(patterns, folder)
    return folder


@pytest.fixture(scope="session")
def page(run: Path) -> Path:
    """Its report."""
    assert main(["report", str(run), "--map", "pca"]) == 0
    return run / "report.html"
