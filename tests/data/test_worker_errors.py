"""Killed worker processes: one clear error, no process left behind, and a run that can be resumed."""

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
from ssl_lib.data.worker_errors import worker_crash, worker_crashes
from ssl_lib.data.workers import start_worker
from ssl_lib.errors import DataError
from ssl_lib.training.checkpoint import load_checkpoint

KILLS = """
import multiprocessing, os, pathlib, signal
from ssl_lib import METHODS, SimCLR

@METHODS.register("kills")
class Kills(SimCLR):
    \"\"\"SimCLR that kills one of the workers in step 4, unless the file `once` exists.\"\"\"

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
    """Arguments of a run with four steps per epoch and two workers."""
    (tmp_path / "kills.py").write_text(KILLS)
    for index in range(32):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index:02}.png")
    trainer = "trainer={batch_size: 8, workers: 2, precision: fp32, device: cpu}"
    data = f"data={{name: image_folder, root: {tmp_path}/images}}"
    plain = [data, "views={preset: simclr, size: 16}", "backbone.width=8"]
    rest = [trainer, "schedule={epochs: 3}", "evaluation.every_epochs=0"]
    return ["quickstart", f"imports=[{tmp_path}/kills.py]", *plain, *rest]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # torch may raise within a __del__
@pytest.mark.parametrize(
    ("sent", "reason"),
    [("SIGKILL", "ran out of memory"), pytest.param("SIGBUS", "/dev/shm", marks=pytest.mark.slow)],
)
def test_killed_worker_is_one_error_and_the_run_can_be_resumed(sent, reason, arguments, tmp_path, capfd):
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    method = f"method={{name: kills, once: {tmp_path / 'killed'}, sent: {sent}}}"
    assert main(["train", *arguments, method, f"run_dir={run}"]) == 2
    error = capfd.readouterr().err
    assert (tmp_path / "killed").exists() and "Traceback" not in error
    last = error.strip().splitlines()[-1].lstrip("\0")  # the worker of torch writes this byte
    assert last.startswith("ssl-lib: error: a process that reads images was killed") and reason in last
    assert "trainer.workers" in last and "--resume" in last and "DataLoader worker (pid" in last
    for survivor in multiprocessing.active_children():  # otherwise DataLoader waits up to 5 s for it
        survivor.kill()
    gc.collect()
    assert multiprocessing.active_children() == []
    assert load_checkpoint(run / "checkpoints" / "last.pt")["step"] == 4

    assert main(["train", str(run), "--resume"]) == 0
    assert main(["train", *arguments, method, f"run_dir={uninterrupted}"]) == 0
    weights = [load_checkpoint(folder / "checkpoints" / "last.pt")["method"] for folder in (run, uninterrupted)]
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())


def share_a_file(pipe):
    start_worker(0)
    pipe.send(DupFd(0))
    pipe.recv()


def test_worker_prints_nothing_if_its_parent_closes_the_connection(capfd):
    parent_end, worker_end = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=share_a_file, args=(worker_end,))
    worker.start()
    shared = parent_end.recv()
    Client(shared._id[0]).close()  # like a parent that fails while it receives a batch
    os.close(shared.detach())  # the worker has noticed it and continues
    parent_end.send(None)
    worker.join()
    assert capfd.readouterr().err == ""


BUS_ERROR = "DataLoader worker (pid 5) is killed by signal: Bus error. It is possible that ..."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. "), "ran out of memory: use fewer"),
        (RuntimeError(BUS_ERROR), "the shared memory, /dev/shm, is full"),
        (RuntimeError("DataLoader worker (pid(s) 5) exited unexpectedly"), "out of memory or of shared memory, /dev/"),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            r"worker \(pid unknown\) closed its connection: .*reset by peer",
        ),
        (
            ConnectionRefusedError("x"),
            r"or of shared memory, /dev/shm: .*worker \(pid unknown\) closed its connection: x",
        ),
    ],
)
def test_every_error_about_a_killed_worker_becomes_a_data_error(error, message):
    """The worker may be killed while it sends a batch, or disappear before the system reports the reason."""
    with pytest.raises(DataError, match=rf"a process that reads images was killed, .*{message}"), worker_crashes():
        raise error


def test_worker_that_disappears_may_have_no_main_guard(monkeypatch):
    gone = RuntimeError("DataLoader worker (pid(s) 5) exited unexpectedly")
    for method, told in (("fork", False), ("spawn", True), ("forkserver", True)):
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda method=method: method)
        assert ("if the script has no main guard, put the code" in str(worker_crash(gone))) == told


def test_other_errors_are_raised_unchanged():
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"), worker_crashes():
        raise RuntimeError("shapes do not fit")
