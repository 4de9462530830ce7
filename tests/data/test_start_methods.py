"""Scripts with a main guard train on image files, however Python starts the processes that read them; others fail."""

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
    features, _ = extract_features(method.encoder, images, size=16, batch_size=12, workers=2)
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
    assert lines.count("imported") == 5, "the script, and two workers each for training and for the features"
    assert_identical(state, trained("fork")[1])


UNGUARDED = """
import logging
import multiprocessing
import sys

from ssl_lib import data

logging.getLogger(__name__).info("not a guard")
print("started")
multiprocessing.set_start_method(sys.argv[1])
batches = data.evaluation_batches(data.FolderData("images"), 1, size=8, workers=int(sys.argv[2]))
print(sum(len(batch.indices) for batch in batches), "images")
"""


def run_unguarded(folder, method, workers, *options):
    """Runs the script as `script.py` or, with the options `-m package`, as the main module of a package."""
    (folder / "images").mkdir()
    for index in range(2):
        Image.new("RGB", (9, 9), (index, 0, 0)).save(folder / "images" / f"{index}.png")
    (folder / "package").mkdir()
    for path in (folder / "script.py", folder / "package" / "__main__.py"):
        path.write_text(UNGUARDED)
    command = [sys.executable, *(options or ("script.py",)), method, str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_script_without_main_guard_is_told_to_add_one(method, tmp_path):
    done = run_unguarded(tmp_path, method, 2)
    assert done.returncode == 1 and done.stdout == "started\n"
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ssl_lib.errors.DataError: ") and "script.py has no main guard" in last
    assert repr(method) in last and 'under `if __name__ == "__main__":`, or set workers=0' in last


@pytest.mark.parametrize(
    ("method", "workers", "options"),
    [("fork", 2, ()), ("spawn", 0, ()), pytest.param("spawn", 2, ("-m", "package"), marks=pytest.mark.slow)],
)
def test_main_guard_is_not_needed_if_the_script_is_not_imported_again(method, workers, options, tmp_path):
    done = run_unguarded(tmp_path, method, workers, *options)
    assert (done.returncode, done.stdout) == (0, "started\n2 images\n"), done.stderr
