"""A folder of images, and a DINO run on it, shared by the tests of this folder."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ssl_lib.cli.main import main

SMALL = [
    "schedule={epochs: 1}",
    "optimizer={name: sgd, lr: 0.1}",
    "views={preset: simclr, size: 12}",
    "trainer={batch_size: 8, workers: 0, device: cpu, precision: fp32}",
]
"""Changes to `quickstart` for a run of 2 steps on `image_folder`."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Two classes of 8 color images of 20 x 24 pixels, each for training and for testing."""
    root = tmp_path_factory.mktemp("images")
    for index in range(32):
        path = root / ("train" if index % 2 else "val") / f"class{index // 16}"
        path.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def run(folder):
    """A run in which teacher and student differ, with an evaluation."""
    path = folder / "run"
    settings = [
        f"data={{name: image_folder, root: {folder}}}",
        "backbone={name: resnet_tiny, width: 8}",
        "method={name: dino, hidden_dim: 8, num_prototypes: 8, momentum: 0.5}",
        "evaluation={every_epochs: 1, knn: {k: 2}, linear: null}",
    ]
    assert main(["train", "quickstart", *SMALL, *settings, f"run_dir={path}"]) == 0
    return path
