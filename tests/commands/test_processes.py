"""The command line in several processes, as torchrun and srun start it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_lib.sharding import OLDEST_TORCH
from tests.conftest import pattern_images

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
    """A working directory with labelled images and a config."""
    images = pattern_images()
    pixels = np.stack([images.read(index)[0].numpy() for index in range(len(images))])
    labels = images.labels.numpy()
    arrays = {"images": pixels[:64], "labels": labels[:64], "test_images": pixels[64:], "test_labels": labels[64:]}
    np.savez(tmp_path / "images.npz", **arrays)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def call(command, folder, **more):
    return subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, text=True, check=False, timeout=300
    )


def srun(arguments, folder):
    """The exit code and the errors of two tasks, started as srun does."""
    slurm = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "localhost"}
    slurm |= {"SLURM_JOB_ID": free_port(), "MASTER_PORT": free_port()}
    tasks = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment(**slurm, SLURM_PROCID=str(task), SLURM_LOCALID=str(task)),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for task in range(2)
    ]
    errors = [task.communicate(timeout=300)[1] for task in tasks]
    return [(task.returncode, error) for task, error in zip(tasks, errors, strict=True)]


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(run, alone):
    theirs, ours = lines(alone), lines(run)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [0, 1, 1, 2, 3, 3]
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() - {"process_gap"} == b.keys()  # of several processes only
        assert a.get("loss", 0) == pytest.approx(b.get("loss", 0), rel=1e-4)
        assert a.get("knn", 0) == pytest.approx(b.get("knn", 0), abs=0.07)  # two of 32 images
    assert len(list(run.rglob("*.partial"))) == 0 and (run / "checkpoints" / "last.pt").exists()


def test_processes_of_torchrun_and_of_srun_train_and_evaluate_as_one(folder):
    train = ["-m", "ssl_lib", "train", "config.yaml"]
    alone = call([sys.executable, *train, "run_dir=alone"], folder)
    assert alone.returncode == 0, alone.stderr

    done = call([*TORCHRUN, free_port(), *train, "run_dir=two"], folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 processes") == done.stdout.count("The run is in") == 1
    assert "Warning" not in done.stderr
    assert_same_run(folder / "two", folder / "alone")

    tasks = srun([*train, "run_dir=srun"], folder)
    assert [code for code, _ in tasks] == [0, 0], tasks
    assert_same_run(folder / "srun", folder / "alone")

    before = json.loads((folder / "two" / "evaluation.json").read_text())["results"]
    done = call([*TORCHRUN, free_port(), "-m", "ssl_lib", "evaluate", "two"], folder)
    assert done.returncode == 0 and done.stdout.count("random init") == 1, done.stderr
    assert json.loads((folder / "two" / "evaluation.json").read_text())["results"] == before


@pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason="fsdp2 is refused with this torch")
def test_processes_that_share_weights_train_and_evaluate_as_one(folder):
    train = ["-m", "ssl_lib", "train", "config.yaml", "backbone=vit_micro"]
    sharded = [*train, "trainer.strategy=fsdp2", "run_dir=sharded"]
    for command in ([sys.executable, *train, "run_dir=alone"], [*TORCHRUN, free_port(), *sharded]):
        done = call(command, folder)
        assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    assert_same_run(folder / "sharded", folder / "alone")

    before = json.loads((folder / "sharded" / "evaluation.json").read_text())["results"]
    (folder / "sharded" / "evaluation.json").unlink()
    done = call([*TORCHRUN, free_port(), *sharded, "--resume"], folder)  # makes up for the evaluation
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "sharded" / "evaluation.json").read_text())["results"] == before
    done = call([sys.executable, "-m", "ssl_lib", "evaluate", "sharded"], folder)
    assert done.returncode == 0, done.stderr
    after = json.loads((folder / "sharded" / "evaluation.json").read_text())["results"]
    assert after["trained"]["knn"] == pytest.approx(before["trained"]["knn"], abs=0.07)


def test_a_signal_to_one_process_stops_all_with_its_code(folder):
    (folder / "signalled.py").write_text(
        "import signal\n"
        "from ssl_lib import METHODS\n"
        "from ssl_lib.distributed import rank\n"
        "from ssl_lib.methods import BYOL\n"
        "@METHODS.register('signalled')\n"
        "class Signalled(BYOL):\n"
        "    def after_update(self, progress):\n"
        "        if rank() == 1 and progress.step == 2:\n"
        "            signal.raise_signal(signal.SIGUSR1)\n"
    )
    config = ["config.yaml", "imports=[signalled.py]", "method.name=signalled", "run_dir=stopped"]
    tasks = srun(["-m", "ssl_lib", "train", *config], folder)
    assert [code for code, _ in tasks] == [138, 138], tasks
    assert "stopped and saved after 3 of 4 steps" in tasks[0][1]


def test_an_error_of_all_processes_is_told_once(folder):
    train = [*TORCHRUN, free_port(), "-m", "ssl_lib", "train", "config.yaml"]
    for wrong, message in (
        (["method.hidden_dm=8"], "error: unknown key 'method.hidden_dm'"),
        (["trainer.batch_size=33"], "cannot be divided by 2 processes: the nearest that can are 32 and 34"),
        (["--rezume"], "error: unknown argument '--rezume'"),
    ):
        done = call([*train, *wrong], folder)
        assert done.returncode == 1 and done.stderr.count(message) == 1 and "in process" not in done.stderr, done.stderr


def test_a_stop_is_told_once(folder):
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
    done = call([*TORCHRUN, free_port(), "-m", "ssl_lib", "train", *config], folder)
    assert done.stderr.count("SIGUSR1: stopping") == done.stderr.count("stopped and saved after 2 of 4 steps") == 1


def test_an_error_in_one_process_ends_the_job_with_its_message(folder):
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
