"""Tests of the command line in several processes, as torchrun and srun start it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_lib.cli.main import main
from ssl_lib.training.fsdp import OLDEST_TORCH
from tests.conftest import pattern_images
from tests.fork_server import ended, fork

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
CONFIG = """
data: {name: arrays, path: images.npz}
backbone: {name: resnet_tiny}
method: {name: byol, hidden_dim: 32, out_dim: 16}
views: {preset: byol_small, size: 16}
optimizer: {name: sgd, lr: 0.1}
schedule: {epochs: 2, warmup_epochs: 0}
trainer: {batch_size: 32, device: cpu, precision: fp32, log_every: 1}
evaluation: {every_epochs: 1, knn: {k: 5}, linear: null}
"""


@pytest.fixture
def folder(tmp_path):
    """A working directory with labeled images and a config."""
    images = pattern_images()
    pixels = np.stack([images.read(index)[0].numpy() for index in range(len(images))])
    labels = images.labels.numpy()
    arrays = {"images": pixels[:64], "labels": labels[:64], "test_images": pixels[64:], "test_labels": labels[64:]}
    np.savez(tmp_path / "images.npz", **arrays)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def call(command, folder):
    """Runs a command in a folder and returns the completed process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def task(arguments, folder, variables):
    """Runs the command line in this process, with further environment variables."""
    os.chdir(folder)
    os.environ.update(variables)
    return main(arguments)


def srun(arguments, folder):
    """Runs two tasks with the environment variables of srun; returns their exit codes and their stderr."""
    shared = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_JOB_ID": free_port(),
        "MASTER_PORT": free_port(),
    }
    tasks, errors = [], [folder / f"task {rank}.txt" for rank in range(2)]
    for rank, error in enumerate(errors):
        error.unlink(missing_ok=True)
        own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        tasks.append(fork(task, arguments, folder, shared | own, out=Path(os.devnull), err=error))
    return [ended(each) for each in tasks], [error.read_text() for error in errors]


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(run, alone):
    theirs, ours = lines(alone), lines(run)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [0, 1, 1, 2, 3, 3]
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() - {"process_gap"} == b.keys()  # `process_gap` is logged by several processes only
        assert a.get("loss", 0) == pytest.approx(b.get("loss", 0), rel=1e-4)
        assert a.get("knn", 0) == pytest.approx(b.get("knn", 0), abs=0.07)  # two of 32 images
    assert len(list(run.rglob("*.partial"))) == 0 and (run / "checkpoints" / "last.pt").exists()


def test_two_processes_of_torchrun_or_srun_match_one_process(folder, monkeypatch):
    monkeypatch.chdir(folder)
    train = ["train", "config.yaml"]
    assert main([*train, "run_dir=alone"]) == 0

    done = call([*TORCHRUN, free_port(), "-m", "ssl_lib", *train, "run_dir=two"], folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 processes") == done.stdout.count("The run is in") == 1
    assert "Warning" not in done.stderr
    assert_same_run(folder / "two", folder / "alone")

    codes, errors = srun([*train, "run_dir=srun"], folder)
    assert codes == [0, 0], errors
    assert_same_run(folder / "srun", folder / "alone")

    before = json.loads((folder / "two" / "evaluation.json").read_text())["results"]
    done = call([*TORCHRUN, free_port(), "-m", "ssl_lib", "evaluate", "two"], folder)
    assert done.returncode == 0 and done.stdout.count("random init") == 1, done.stderr
    assert json.loads((folder / "two" / "evaluation.json").read_text())["results"] == before


@pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason="this torch is too old for fsdp2")
def test_two_processes_with_fsdp2_match_one_process(folder, monkeypatch):
    monkeypatch.chdir(folder)
    train = ["train", "config.yaml", "backbone=vit_micro"]
    sharded = ["-m", "ssl_lib", *train, "trainer.strategy=fsdp2", "run_dir=sharded"]
    assert main([*train, "run_dir=alone"]) == 0
    done = call([*TORCHRUN, free_port(), *sharded], folder)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    assert_same_run(folder / "sharded", folder / "alone")

    before = json.loads((folder / "sharded" / "evaluation.json").read_text())["results"]
    (folder / "sharded" / "evaluation.json").unlink()
    done = call([*TORCHRUN, free_port(), *sharded, "--resume"], folder)  # repeats the missing evaluation
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "sharded" / "evaluation.json").read_text())["results"] == before
    assert main(["evaluate", "sharded"]) == 0
    after = json.loads((folder / "sharded" / "evaluation.json").read_text())["results"]
    assert after["trained"]["knn"] == pytest.approx(before["trained"]["knn"], abs=0.07)


def test_processes_exit_with_0_if_a_reference_to_the_group_remains(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\n"
        "import torch.distributed as dist\n"
        "from ssl_lib.distributed import gather, started\n"
        "with started():\n"
        "    group = dist.group.WORLD\n"  # FSDP2's caches keep such a reference
        "    for _ in range(50):\n"
        "        gather(torch.ones(1000))\n"
    )
    for _ in range(4):
        done = call([*TORCHRUN, free_port(), str(script)], tmp_path)
        assert done.returncode == 0, done.stderr


def test_signal_to_one_process_stops_all_processes_with_its_exit_code(folder):
    (folder / "signaled.py").write_text(
        "import signal\n"
        "from ssl_lib import METHODS\n"
        "from ssl_lib.distributed import rank\n"
        "from ssl_lib.methods import BYOL\n"
        "@METHODS.register('signaled')\n"
        "class Signaled(BYOL):\n"
        "    def after_update(self, progress):\n"
        "        if rank() == 1 and progress.step == 2:\n"
        "            signal.raise_signal(signal.SIGUSR1)\n"
    )
    config = ["config.yaml", "imports=[signaled.py]", "method.name=signaled", "run_dir=stopped"]
    codes, errors = srun(["train", *config], folder)
    assert codes == [138, 138], errors
    assert "stopped and saved after 3 of 4 steps" in errors[0]


WRONG_ARGUMENTS = [
    (["method.hidden_dm=8"], "error: unknown key 'method.hidden_dm'"),
    (["trainer.batch_size=33"], "cannot be divided by 2 processes: the nearest valid sizes are 32 and 34"),
    (["--rezume"], "error: unrecognized arguments: --rezume"),
]


def test_error_of_all_processes_is_printed_once(folder):
    for arguments, message in WRONG_ARGUMENTS:
        codes, errors = srun(["train", "config.yaml", *arguments], folder)
        printed = "".join(errors)
        assert codes == [2, 2] and printed.count(message) == 1 and "in process" not in printed, printed
    arguments, message = WRONG_ARGUMENTS[1]
    done = call([*TORCHRUN, free_port(), "-m", "ssl_lib", "train", "config.yaml", *arguments], folder)
    assert done.returncode == 1 and done.stderr.count(message) == 1 and "in process" not in done.stderr, done.stderr


def test_stop_message_is_printed_once(folder):
    (folder / "stopped.py").write_text(
        "import signal\n"
        "from ssl_lib import METHODS\n"
        "from ssl_lib.methods import BYOL\n"
        "@METHODS.register('stopped')\n"
        "class Stopped(BYOL):\n"
        "    def after_update(self, progress):\n"
        "        if progress.step == 1:\n"
        "            signal.raise_signal(signal.SIGUSR1)\n"
    )
    config = ["config.yaml", "imports=[stopped.py]", "method.name=stopped", "run_dir=stopped_run"]
    printed = "".join(srun(["train", *config], folder)[1])
    assert printed.count("SIGUSR1: stopping") == printed.count("stopped and saved after 2 of 4 steps") == 1


def test_error_in_one_process_ends_the_job_with_its_message(folder):
    (folder / "broken.py").write_text(
        "from ssl_lib import METHODS, DataError\n"
        "from ssl_lib.distributed import rank\n"
        "from ssl_lib.methods import BYOL\n"
        "@METHODS.register('broken')\n"
        "class Broken(BYOL):\n"
        "    def after_update(self, progress):\n"
        "        if rank() == 1 and progress.step == 1:\n"
        "            raise DataError('a disk is gone')\n"
    )
    config = ["config.yaml", "imports=[broken.py]", "method.name=broken", "run_dir=broken_run"]
    done = call([*TORCHRUN, free_port(), "-m", "ssl_lib", "train", *config], folder)
    assert done.returncode == 1
    assert "ssl-lib: error in process 1: a disk is gone" in done.stderr
