"""Scripts with a main guard train on image files, however Python starts the processes that read them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_lib.training.checkpoint import load_checkpoint
from tests.training.reliability_helper import assert_identical

ROOT = Path(__file__).parents[2]

SCRIPT = """
import multiprocessing
import sys

from ssl_lib import LARS, Loader, Schedule, SimCLR, Trainer, ViewPipeline, backbones, data, seed_everything, views
from ssl_lib.evaluation import extract_features

print("imported")
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    seed_everything(0)
    images = data.FolderData("images")
    pipeline = ViewPipeline(views.presets.simclr(size=16), images.mean, images.std)
    method = SimCLR(backbones.resnet_tiny(width=8), hidden_dim=8)
    trainer = Trainer("run", device="cpu", precision="fp32")
    loader = Loader(images, pipeline, batch_size=8, workers=2)
    state = trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.1), Schedule(epochs=2))
    features, _ = extract_features(method.encoder, images, size=16, workers=2)
    print(state.step, tuple(features.shape), multiprocessing.get_start_method())
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs the script with a start method, once for each; returns its output and its last checkpoint."""
    results = {}

    def run(method):
        if method not in results:
            folder = tmp_path_factory.mktemp(method)
            (folder / "images").mkdir()
            for index in range(24):
                pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "images" / f"{index:02}.png")
            (folder / "script.py").write_text(SCRIPT)
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "script.py", method]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            results[method] = done.stdout.splitlines(), load_checkpoint(folder / "run" / "checkpoints" / "last.pt")
        return results[method]

    return run


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_script_trains_on_image_files_with_workers(method, trained):
    lines, state = trained(method)
    assert lines[-1] == f"6 (24, 42) {method}"
    assert lines.count("imported") == 4, "the script, two workers, and one for the single batch of features"
    assert_identical(state, trained("fork")[1])
