"""Checkpoints are written atomically, verified, and loaded without executing code."""

from __future__ import annotations

import os
import pickle
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_lib import CheckpointError
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint, snapshot, tensor_bytes
from ssl_lib.training.checkpoint_folder import find_checkpoint, save_in_folder
from tests.fork_server import ended, fork


def test_saved_state_is_loaded_unchanged(tmp_path):
    state = {"step": 3, "method": {"w": torch.randn(3)}, "config": "seed: 1", "none": None}
    save_checkpoint(tmp_path / "a" / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "a" / "last.pt")
    assert torch.equal(loaded["method"]["w"], state["method"]["w"])
    assert (loaded["step"], loaded["config"], loaded["none"]) == (3, "seed: 1", None)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["last.pt"]


class Malicious:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_malicious_checkpoint_is_refused_and_not_executed(tmp_path):
    torch.save({"format": 1, "method": Malicious(tmp_path / "owned")}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="more than plain tensors"):
        load_checkpoint(tmp_path / "bad.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Malicious(tmp_path / "owned"), protocol=2))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "raw.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_error_names_a_truncated_checkpoint(tmp_path, keep):
    save_checkpoint(tmp_path / "last.pt", {"w": torch.randn(1000)})
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        load_checkpoint(tmp_path / "last.pt")


def test_failed_save_keeps_the_previous_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "last.pt", {"step": 1})
    (tmp_path / "last.pt.partial").mkdir()  # cannot be opened for writing
    with pytest.raises(CheckpointError, match="cannot write"):
        save_checkpoint(tmp_path / "last.pt", {"step": 2})
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 1


def test_other_and_missing_files_are_refused(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of ssl_lib"):
        load_checkpoint(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "missing.pt")


def test_find_checkpoint_finds_the_last_checkpoint_of_a_run_and_a_file(tmp_path):
    with pytest.raises(CheckpointError, match="no run at"):
        find_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "checkpoints" / "last.pt", {})
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoints" / "last.pt"
    assert find_checkpoint(tmp_path / "checkpoints" / "last.pt") == tmp_path / "checkpoints" / "last.pt"


@pytest.mark.parametrize("before", [1, 2, 3])
def test_checkpoint_that_is_deleted_during_the_search_is_ignored(before, tmp_path, monkeypatch):
    """The file disappears before the first, second or third call of `stat`."""
    gone = tmp_path / "checkpoints" / "step_00000001.pt"
    for name in ("last.pt", gone.name):
        save_checkpoint(gone.with_name(name), {})
    calls, stat = iter(range(1, before)), Path.stat

    def delete_and_stat(path, **options):
        if path == gone and next(calls, None) is None:
            gone.unlink(missing_ok=True)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", delete_and_stat)
    assert find_checkpoint(tmp_path) == gone.with_name("last.pt")


def test_numpy_numbers_are_saved_as_python_numbers_and_objects_are_refused(tmp_path):
    state = {"lr": np.float64(0.5), "groups": [{"betas": (np.float32(0.5), 2)}], "step": np.int64(3)}
    save_checkpoint(tmp_path / "last.pt", state)
    saved = load_checkpoint(tmp_path / "last.pt")
    assert saved["lr"] == 0.5 and type(saved["lr"]) is float and type(saved["step"]) is int
    assert saved["groups"][0]["betas"][0] == 0.5
    with pytest.raises(CheckpointError, match=r"groups\[0\]\.when has type object"):
        save_checkpoint(tmp_path / "last.pt", {"groups": [{"when": object()}]})
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3


def test_flipped_bit_is_detected_unless_it_changes_no_value(tmp_path):
    """torch.load alone loads most of these files without an error."""
    state = {"w": torch.randn(500), "step": 7, "config": "seed: 1"}
    path = tmp_path / "last.pt"
    save_checkpoint(path, state)
    intact, generator, detected = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(intact)
        damaged[generator.randrange(len(intact))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            assert "last.pt" in str(error)
            detected += 1
        else:
            assert torch.equal(loaded["w"], state["w"]) and (loaded["step"], loaded["config"]) == (7, "seed: 1")
    assert detected > 200


def save_steps(folder, keep, *steps):
    for step in steps:
        save_in_folder(folder, {"step": step}, ["last.pt"], keep)
    return sorted(path.name for path in folder.iterdir())


def test_most_recent_saves_are_kept_and_later_steps_from_before_a_resume_are_deleted(tmp_path):
    names = save_steps(tmp_path, 3, 1, 2, 3, 12)
    assert names == ["last.pt", "step_00000002.pt", "step_00000003.pt", "step_00000012.pt"]
    assert save_steps(tmp_path, 2, 5) == ["last.pt", "step_00000003.pt", "step_00000005.pt"]
    assert save_steps(tmp_path, 1, 6) == ["last.pt", "step_00000006.pt"]
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 6


def test_partial_file_of_a_killed_process_is_replaced_and_not_written_to(tmp_path):
    """A process that is killed between link and rename leaves a hard link to an older checkpoint."""
    save_steps(tmp_path, 2, 1)
    for name in ("last.pt.partial", "step_00000002.pt.partial"):
        os.link(tmp_path / "step_00000001.pt", tmp_path / name)
    save_steps(tmp_path, 2, 2)
    assert [load_checkpoint(tmp_path / f"step_0000000{step}.pt")["step"] for step in (1, 2)] == [1, 2]


def test_training_does_not_change_a_snapshot():
    weights = torch.nn.Linear(3, 3)
    copied = snapshot({"method": weights.state_dict(), "step": 1})
    before = weights.weight.detach().clone()
    with torch.no_grad():
        weights.weight.zero_()
    assert torch.equal(copied["method"]["weight"], before)
    assert copied["method"]._metadata == weights.state_dict()._metadata
    assert tensor_bytes(copied) == 4 * 12


def save_repeatedly(path):
    state = {f"weights{i}": torch.zeros(250_000) for i in range(40)}
    print("ready", flush=True)
    while True:
        save_checkpoint(path, state)


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.08, 0.11, 0.14])
def test_interrupt_during_a_save_raises_keyboard_interrupt_and_leaves_an_intact_file(delay, tmp_path):
    path, pipe, err = tmp_path / "last.pt", tmp_path / "pipe", tmp_path / "err"
    os.mkfifo(pipe)
    process = fork(save_repeatedly, path, out=pipe, err=err)
    with open(pipe) as ready:
        ready.readline()
    time.sleep(delay)
    os.kill(process.pid, signal.SIGINT)
    assert ended(process) == 1 and err.read_text().strip().endswith("KeyboardInterrupt"), err.read_text()
    assert not list(tmp_path.glob("*.partial"))
    if path.exists():
        assert len(load_checkpoint(path)) == 41


def test_module_versions_of_a_state_dict_are_saved(tmp_path):
    state = torch.nn.BatchNorm1d(3).state_dict()
    save_checkpoint(tmp_path / "last.pt", {"method": state})
    assert load_checkpoint(tmp_path / "last.pt")["method"]._metadata == state._metadata
