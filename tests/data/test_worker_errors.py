"""A worker process that is killed: one clear error, no process left behind, and a run that goes on."""

from __future__ import annotations

import gc
import multiprocessing
import os
from multiprocessing.connection import Client
from multiprocessing.resource_sharer import DupFd

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.cli.main import main
from ssl_lib.data.worker_errors import worker_crashes
from ssl_lib.data.workers import start_worker
from ssl_lib.errors import DataError
from ssl_lib.training.checkpoint import load_checkpoint

KILLS = """
import multiprocessing, os, pathlib, signal
from ssl_lib import METHODS, SimCLR

@METHODS.register("kills")
class Kills(SimCLR):
    \"\"\"SimCLR that once, in the fourth step, kills one of the processes that read the images.\"\"\"

    def __init__(self, backbone, *, once: str = "", sent: str = "SIGKILL"):
        super().__init__(backbone, hidden_dim=16, out_dim=8)
        self.once, self.sent = once, sent

    def forward(self, views, progress):
        if self.once and progress.step == 4 and not pathlib.Path(self.once).exists():
            pathlib.Path(self.once).touch()
            os.kill(multiprocessing.active_children()[-1].pid, getattr(signal, self.sent))
        return super().forward(views, progress)
"""


@pytest.fixture
def arguments(tmp_path):
    """Four steps an epoch, read by two processes."""
    (tmp_path / "kills.py").write_text(KILLS)
    for index in range(32):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index:02}.png")
    trainer = "trainer={batch_size: 8, workers: 2, precision: fp32, device: cpu}"
    plain = [f"data={{name: image_folder, root: {tmp_path}}}", "views={preset: simclr, size: 16}", "backbone.width=8"]
    return ["quickstart", f"imports=[{tmp_path}/kills.py]", *plain, trainer, "schedule={epochs: 3}",
            "evaluation.every_epochs=0"]  # fmt: skip


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # torch may raise within a __del__
@pytest.mark.parametrize(
    ("sent", "reason"),
    [("SIGKILL", "ran out of memory"), pytest.param("SIGBUS", "/dev/shm", marks=pytest.mark.slow)],
)
def test_a_killed_worker_is_one_error_and_the_run_goes_on(sent, reason, arguments, tmp_path, capfd):
    run, unbroken = tmp_path / "run", tmp_path / "unbroken"
    method = f"method={{name: kills, once: {tmp_path / 'killed'}, sent: {sent}}}"
    assert main(["train", *arguments, method, f"run_dir={run}"]) == 2
    error = capfd.readouterr().err
    assert (tmp_path / "killed").exists() and "Traceback" not in error
    last = error.strip().splitlines()[-1].lstrip("\0")  # torch's worker ends its line so
    assert last.startswith("ssl-lib: error: a process that reads images was killed") and reason in last
    assert "trainer.workers" in last and "--resume" in last and "DataLoader worker (pid" in last
    for survivor in multiprocessing.active_children():  # or else DataLoader waits for it, up to 5 s
        survivor.kill()
    gc.collect()
    assert multiprocessing.active_children() == []
    assert load_checkpoint(run / "checkpoints" / "last.pt")["step"] == 4

    assert main(["train", str(run), "--resume"]) == 0
    assert main(["train", *arguments, method, f"run_dir={unbroken}"]) == 0
    weights = [load_checkpoint(folder / "checkpoints" / "last.pt")["method"] for folder in (run, unbroken)]
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())


def share_a_file(pipe):
    start_worker(0)
    pipe.send(DupFd(0))
    pipe.recv()


def test_a_worker_is_silent_about_a_parent_that_hangs_up(capfd):
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=share_a_file, args=(theirs,))
    worker.start()
    shared = ours.recv()
    Client(shared._id[0]).close()  # as a parent whose error comes while it takes a batch
    os.close(shared.detach())  # the worker has seen it, and goes on
    ours.send(None)
    worker.join()
    assert capfd.readouterr().err == ""


BUS_ERROR = "DataLoader worker (pid 5) is killed by signal: Bus error. It is possible that ..."


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. "), "ran out of memory: use fewer"),
        (RuntimeError(BUS_ERROR), "the shared memory, /dev/shm, is full"),
        (RuntimeError("DataLoader worker (pid(s) 5) exited unexpectedly"), "out of memory, or of shared memory, /dev/"),
        (ConnectionResetError(104, "Connection reset by peer"), r"worker \(pid unknown\) hung up: .*reset by peer"),
        (ConnectionRefusedError("x"), r"or of shared memory, /dev/shm: .*worker \(pid unknown\) hung up: x"),
    ],
)
def test_however_a_killed_worker_is_noticed_the_error_is_one_of_the_data(error, told):
    """It may be killed while it hands a batch over, or be gone before the system has told how it ended."""
    with pytest.raises(DataError, match=rf"a process that reads images was killed, .*{told}"), worker_crashes():
        raise error
