"""Runs of `ssl-lib train` in processes of their own, to be killed, stopped and compared."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time

import numpy as np
import torch

from ssl_lib.training.checkpoint import load_checkpoint

TIMES = ("images_per_second", "data_wait", "memory_gb")


def write_config(folder):
    """DINO in fp16: with a teacher, centers, optimizer momentum, a gradient scaler, and an evaluation per epoch."""
    generator = np.random.default_rng(0)
    images = {name: generator.integers(0, 256, (64, 12, 12), dtype=np.uint8) for name in ("images", "test_images")}
    labels = {name: np.arange(64) % 4 for name in ("labels", "test_labels")}
    np.savez(folder / "data.npz", **images, **labels)
    (folder / "tiny.yaml").write_text(f"""
data: {{name: arrays, path: {folder / "data.npz"}}}
backbone: {{name: resnet_tiny, width: 8}}
method: {{name: dino, hidden_dim: 8, bottleneck_dim: 8, num_prototypes: 16}}
views: {{preset: dino, size: 12, small_size: 8, small_count: 1}}
optimizer: {{name: lars, lr: 0.3}}
schedule: {{epochs: 3, warmup_epochs: 1, weight_decay_end: 0.1}}
trainer: {{batch_size: 8, precision: fp16, device: cpu, log_every: 3, save_minutes: 0.0005, keep_best: true}}
evaluation: {{every_epochs: 1, linear: null, knn: {{k: 3}}}}
""")
    return folder / "tiny.yaml"


def arguments(config, folder, *overrides):
    return ["train", str(config), f"run_dir={folder}", *overrides]


def start_or_resume(config, folder, *overrides):
    """The command that starts the run, or resumes it if it has been started."""
    return [*arguments(config, folder, *overrides), *(["--resume"] if (folder / "config.yaml").exists() else [])]


def with_workers(images, folder):
    """The command that starts a run of several thousand steps, with two workers."""
    changes = [f"data={{name: image_folder, root: {images}}}", "trainer.batch_size=8", "trainer.workers=2"]
    changes += ["schedule={epochs: 1000}", "backbone.width=8", "trainer.save_minutes=0.0001", f"run_dir={folder}"]
    return ["train", "quickstart", *changes, "evaluation.every_epochs=0"]


def wait_for_a_save(folder, pid):
    """Waits until the process has saved, or has ended."""

    def status():
        try:
            found = (folder / "checkpoints" / "last.pt").stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    before = status()
    while status() == before and os.path.exists(f"/proc/{pid}"):
        time.sleep(0.001)


def kill_repeatedly(server, config, folder, kills, *overrides):
    """Kills a run at random moments: mostly during or after its next save, sometimes during its start."""
    generator = random.Random(0)
    for _ in range(kills):
        pid = server.start(start_or_resume(config, folder, *overrides))
        if generator.random() < 0.75:
            wait_for_a_save(folder, pid)
            time.sleep(generator.uniform(0, 0.05))
        else:
            time.sleep(generator.uniform(0, 0.2))  # short, since a run may take only a second
        os.kill(pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL, "the run ended before all kills"


def copy_without_newest_save(run, folder):
    """Copies a run, without its last save."""
    shutil.copytree(run, folder)
    newest, older = sorted((folder / "checkpoints").glob("step_*.pt"), reverse=True)
    newest.unlink()
    shutil.copyfile(older, folder / "checkpoints" / "last.pt")
    return folder


def logged_lines(folder):
    """The logged lines without times and memory."""
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in text.splitlines()]


def assert_same_run(folder, uninterrupted):
    """Asserts that logs, last and best checkpoint, and evaluation are equal, and no partial files are left."""
    assert logged_lines(folder) == logged_lines(uninterrupted)
    states = [load_checkpoint(run / "checkpoints" / "last.pt") for run in (folder, uninterrupted)]
    assert states[0].pop("config") != states[1].pop("config")  # they contain the folders
    assert_identical(*states)
    results = [json.loads((run / "evaluation.json").read_text()) for run in (folder, uninterrupted)]
    assert results[0] == results[1]
    best = [load_checkpoint(run / "checkpoints" / "best.pt") for run in (folder, uninterrupted)]
    del best[0]["config"], best[1]["config"]
    assert_identical(*best)
    assert not list(folder.rglob("*.partial"))


def assert_identical(a, b, path="state"):
    """Asserts that two loaded checkpoints have the same types, and are equal bit for bit."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_identical(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_identical(x, y, f"{path}[{index}]")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), path
    else:
        assert a == b, path
