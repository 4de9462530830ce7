"""Long runs do not leak memory, open files, threads or processes. `pytest -m slow --soak-steps 5000`."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import LARS, Evaluator, Loader, Schedule, Trainer, ViewPipeline, views
from ssl_lib.data import FolderData
from ssl_lib.evaluation import KNN
from ssl_lib.training.callbacks import Callback, Evaluation, default_callbacks
from tests.conftest import TinyBackbone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

NOISE = 8 * 2**20
"""Bytes by which the memory may grow without a leak, because of the allocator's arenas."""


class Soak(Callback):
    """Records the resources of the process at the end of an epoch after a third of the run, and at the end."""

    def __init__(self):
        self.records = []

    def on_epoch(self, state):
        if state.finished or (state.step >= state.total_steps / 3 and not self.records):
            self.records.append(resources())


def resources():
    """Bytes in memory, tensors alive, open files, threads and child processes of this process."""
    gc.collect()
    own = Path("/proc/self")
    pages = int((own / "statm").read_text().split()[1])
    children = [child for task in (own / "task").iterdir() for child in (task / "children").read_text().split()]
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "tensors": sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects()),
        "files": len(list((own / "fd").iterdir())),
        "threads": len(list((own / "task").iterdir())),
        "named threads": threading.active_count(),
        "processes": len(children),
    }


def train(method, loader, steps, folder, extra=()):
    """Trains with the default callbacks, and returns the resources early in the run and at its end."""
    soak = Soak()
    trainer = Trainer(folder, log_every=5, callbacks=[*default_callbacks(folder)[1:], *extra, soak], device="cpu")
    trainer.fit(
        method, loader, LARS(method.param_groups(1e-4), lr=0.1), Schedule(epochs=steps / loader.steps_per_epoch)
    )
    early, late = soak.records
    return early, late


def assert_flat(early, late):
    """Asserts that nothing grew, except for the allocator's noise."""
    grown = late["memory"] - early["memory"]
    assert grown < NOISE, f"{grown / 2**20:.1f} MiB"
    for kind in ("tensors", "files", "threads", "named threads", "processes"):
        assert late[kind] <= early[kind], (kind, early[kind], late[kind])


@pytest.mark.parametrize("name", ["simclr", "dino"])
def test_training_from_memory_does_not_leak(name, make_method, make_loader, images, tmp_path, pytestconfig):
    before = resources()
    evaluation = Evaluation(
        Evaluator(images, images, [KNN(k=5)], random_encoder=TinyBackbone(), size=16),
        every_epochs=10,
        path=tmp_path / "evaluation.json",
    )
    method, loader = make_method(name), make_loader(name)
    assert_flat(*train(method, loader, pytestconfig.getoption("soak_steps"), tmp_path, [evaluation]))
    del method, loader, evaluation
    after = resources()
    assert after["files"] <= before["files"] and after["processes"] <= before["processes"]


def test_training_from_files_with_workers_does_not_leak(make_method, tmp_path, pytestconfig):
    for index in range(64):
        pixels = np.random.default_rng(index).integers(0, 256, (48, 40 + index, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index:02}.jpg")
    before = resources()
    data = FolderData(tmp_path)
    loader = Loader(data, ViewPipeline(views.presets.simclr(size=24), data.mean, data.std), 16, workers=2)
    method = make_method("simclr", backbone=TinyBackbone(in_channels=3))
    early, late = train(method, loader, pytestconfig.getoption("soak_steps"), tmp_path / "run")
    assert_flat(early, late)
    assert late["processes"] == before["processes"] + 2
    del method, loader, data
    after = resources()
    assert after["processes"] == before["processes"] and after["files"] <= before["files"]
    assert after["named threads"] <= before["named threads"]


def test_many_short_runs_in_one_process_do_not_leak(make_method, tmp_path, pytestconfig):
    """As in a notebook: build, train and discard."""
    for index in range(8):
        Image.fromarray(np.full((20, 20, 3), 30 * index, np.uint8)).save(tmp_path / f"{index}.png")

    def short_run():
        data = FolderData(tmp_path)
        loader = Loader(data, ViewPipeline(views.presets.simclr(size=16), data.mean, data.std), 4, workers=1)
        method = make_method("byol", backbone=TinyBackbone(in_channels=3))
        Trainer(callbacks=[], device="cpu").fit(
            method, loader, LARS(method.param_groups(0.0), lr=0.1), Schedule(epochs=2)
        )

    short_run()
    early = resources()
    for _ in range(pytestconfig.getoption("soak_steps") // 30):
        short_run()
    assert_flat(early, resources())
