"""Runs that are killed, stopped, and short of disk, in processes of their own, end as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.cli.main import main
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.checkpoint_folder import find_checkpoint
from tests.fork_server import Command

ROOT = Path(__file__).parents[2]
TIMES = ("images_per_second", "data_wait", "memory_gb")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    return Command(tmp_path_factory.mktemp("server") / "log.txt")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """DINO in fp16: a teacher, centers, a momentum optimizer, a gradient scaler, and an evaluation per epoch."""
    folder = tmp_path_factory.mktemp("config")
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


def lines_of(folder):
    """What was logged, but for the times."""
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in text.splitlines()]


def assert_same(a, b, path="state"):
    """Bit for bit."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{index}]")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), path
    else:
        assert a == b, path


def assert_same_run(folder, unbroken):
    assert lines_of(folder) == lines_of(unbroken)
    states = [load_checkpoint(run / "checkpoints" / "last.pt") for run in (folder, unbroken)]
    assert states[0].pop("config") != states[1].pop("config")  # they name their folders
    assert_same(*states)
    results = [json.loads((run / "evaluation.json").read_text()) for run in (folder, unbroken)]
    assert results[0] == results[1]
    best = [load_checkpoint(run / "checkpoints" / "best.pt") for run in (folder, unbroken)]
    assert best[0]["step"] == best[1]["step"]
    assert_same(best[0]["method"], best[1]["method"])
    assert not list(folder.rglob("*.partial"))


def wait_for_a_save(folder, pid):
    """Returns when the process has saved, or is gone."""

    def seen():
        try:
            found = (folder / "checkpoints" / "last.pt").stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    before = seen()
    while seen() == before and os.path.exists(f"/proc/{pid}"):
        time.sleep(0.001)


def go_on(config, folder, *overrides):
    """The command that starts the run, or resumes what is there of it."""
    return [*arguments(config, folder, *overrides), *(["--resume"] if (folder / "config.yaml").exists() else [])]


def kill_again_and_again(server, config, folder, kills, *overrides):
    """Kills a run at random moments: most within or after its next save, some while it starts."""
    chance = random.Random(0)
    for _ in range(kills):
        pid = server.start(go_on(config, folder, *overrides))
        if chance.random() < 0.75:
            wait_for_a_save(folder, pid)
            time.sleep(chance.uniform(0, 0.05))
        else:
            time.sleep(chance.uniform(0, 0.2))  # short enough for a run of a second
        os.kill(pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL, "the run was over before all kills were made"


@pytest.fixture(scope="module")
def unbroken(server, config, tmp_path_factory):
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert server.run(arguments(config, folder)) == 0
    return folder


def test_a_run_killed_three_times_equals_an_unbroken_one(server, config, unbroken, tmp_path):
    folder = tmp_path / "run"
    kill_again_and_again(server, config, folder, 3)
    assert server.run(go_on(config, folder)) == 0
    assert_same_run(folder, unbroken)


@pytest.mark.slow
def test_a_save_killed_before_any_of_its_system_calls_leaves_a_checkpoint(server, config, unbroken, tmp_path):
    """The end of the run again and again, killed one call later each time."""
    folder, calls = tmp_path / "run", 1
    before = min(load_checkpoint(path)["step"] for path in (unbroken / "checkpoints").glob("step_*.pt"))
    while server.run(go_on(config, without_the_newest(unbroken, folder)), kill_at=calls) == -signal.SIGKILL:
        for path in (folder / "checkpoints").glob("*.pt"):
            assert load_checkpoint(path)["step"] > 0, "every name stands for a whole checkpoint"
        assert load_checkpoint(find_checkpoint(folder))["step"] >= before
        assert server.run(go_on(config, folder)) == 0
        assert_same_run(folder, unbroken)
        shutil.rmtree(folder)
        calls += 1
    assert calls > 20, "they were seen"
    assert_same_run(folder, unbroken)


@pytest.mark.slow
def test_a_run_killed_twenty_times_equals_an_unbroken_one(server, config, tmp_path):
    """The unbroken run and the last leg are `python -m ssl_lib train`; 25 epochs of 8 steps."""
    folders, longer = (tmp_path / "killed", tmp_path / "unbroken"), "schedule.epochs=25"
    kill_again_and_again(server, config, folders[0], 20, longer)
    for folder in folders:
        command = [sys.executable, "-m", "ssl_lib", *go_on(config, folder, longer)]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert_same_run(*folders)


def test_a_signal_stops_the_run_after_a_save_and_it_goes_on_as_if_nothing_had_happened(
    server, config, unbroken, tmp_path
):
    folder = tmp_path / "run"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        pid = server.start(go_on(config, folder))
        wait_for_a_save(folder, pid)
        os.kill(pid, number)
        assert server.wait() == 128 + number
        said = server.log.read_text().splitlines()[-1]
        assert said.startswith("stopped and saved after") and said.endswith(f"ssl-lib train {folder} --resume")
        assert f"after {load_checkpoint(folder / 'checkpoints' / 'last.pt')['step']} of 24 steps" in said
    assert server.run(["train", str(folder), "--resume"]) == 0
    assert_same_run(folder, unbroken)


@pytest.fixture
def images(tmp_path):
    """A folder of labeled image files, which workers decode."""
    for split in ("train", "test"):
        for index in range(32):
            path = tmp_path / "images" / split / "ab"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (32, 32), 7 * index).save(path)
    return tmp_path / "images"


def with_workers(images, folder):
    """The command that starts a run of some thousand steps, with two workers."""
    changes = [f"data={{name: image_folder, root: {images}}}", "trainer.batch_size=8", "trainer.workers=2"]
    changes += ["schedule={epochs: 1000}", "backbone.width=8", "trainer.save_minutes=0.0001", f"run_dir={folder}"]
    return ["train", "quickstart", *changes, "evaluation.every_epochs=0"]


def test_a_signal_to_the_whole_group_spares_the_workers(server, images, tmp_path):
    """As a terminal or a scheduler sends it; the workers are needed until the update is done, and are gone after."""
    pid = server.start(with_workers(images, tmp_path / "run"))
    wait_for_a_save(tmp_path / "run", pid)
    os.killpg(pid, signal.SIGTERM)
    assert server.wait() == 143
    said = server.log.read_text().splitlines()[-1]
    assert said.startswith("stopped and saved after")
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


def test_a_second_process_is_refused_and_a_killed_one_is_not_waited_for(server, images, tmp_path, capsys):
    """The first one is halted meanwhile; its workers outlive it, halted too, and hold nothing."""
    folder = tmp_path / "run"
    start = with_workers(images, folder)
    pid = server.start(start)
    wait_for_a_save(folder, pid)
    os.killpg(pid, signal.SIGSTOP)
    try:
        before = {path: path.read_bytes() for path in folder.rglob("*.*")}
        for again in (start, [*start, "--overwrite"], ["train", str(folder), "--resume"]):
            assert main(again) == 2
            (said,) = capsys.readouterr().err.splitlines()
            assert said.startswith(f"ssl-lib: error: {folder} is being trained into by process {pid} on")
        assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
        os.kill(pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        other = server.start(["train", str(folder), "--resume"])
        wait_for_a_save(folder, other)
        os.killpg(pid, 0)  # the workers are there
        os.kill(other, signal.SIGTERM)
        assert server.wait() == 143
    finally:
        os.killpg(pid, signal.SIGKILL)


def without_the_newest(unbroken, folder):
    """A copy of the run, in which its last save but one is the last."""
    shutil.copytree(unbroken, folder)
    newest, older = sorted((folder / "checkpoints").glob("step_*.pt"), reverse=True)
    newest.unlink()
    shutil.copyfile(older, folder / "checkpoints" / "last.pt")
    return folder


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint_whole(server, config, unbroken, tmp_path):
    folder = without_the_newest(unbroken, tmp_path / "run")
    before = (folder / "checkpoints" / "last.pt").read_bytes()
    assert server.run(go_on(config, folder), largest_file=20_000) == 2
    said = server.log.read_text().splitlines()[-1]
    assert said.startswith("ssl-lib: error: cannot write the checkpoint") and "MB free" in said
    assert (folder / "checkpoints" / "last.pt").read_bytes() == before
    assert not list(folder.rglob("*.partial"))
    assert server.run(go_on(config, folder)) == 0
    assert_same_run(folder, unbroken)


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete"])
def test_where_the_newest_checkpoint_is_damaged_the_run_goes_on_from_the_one_before(
    harm, server, config, unbroken, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    checkpoints = folder / "checkpoints"
    newest, older = sorted(checkpoints.glob("step_*.pt"), reverse=True)
    for path in (checkpoints / "last.pt", newest):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if harm == "flip" else content[: len(content) // 2])
        if harm == "delete":
            path.unlink()
    assert server.run(["train", str(folder), "--resume"]) == 0
    if harm != "delete":
        (warning,) = [line for line in server.log.read_text().splitlines() if str(older) in line]
        assert warning.startswith(f"warning: cannot read the checkpoint {checkpoints / 'last.pt'}: it is damaged")
    assert_same_run(folder, unbroken)


def test_where_every_checkpoint_is_damaged_all_are_named(server, config, unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    damaged = list((folder / "checkpoints").glob("[ls]*.pt"))
    for path in damaged:
        path.write_bytes(path.read_bytes()[:1000])
    assert server.run(["train", str(folder), "--resume"]) == 2
    said = server.log.read_text().splitlines()[-1]
    assert said.startswith(f"ssl-lib: error: no checkpoint of {folder} is whole")
    assert all(str(path) in said for path in damaged)


def test_the_best_checkpoint_is_that_of_the_best_evaluation(unbroken):
    found = [line for line in lines_of(unbroken) if "knn" in line]
    best = max(found, key=lambda line: line["knn"])  # the first of equals
    assert load_checkpoint(unbroken / "checkpoints" / "best.pt")["step"] == best["step"] + 1
    assert json.loads((unbroken / "evaluation.json").read_text())["steps"] == found[-1]["step"] + 1
