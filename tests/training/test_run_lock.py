"""One run at a time in a folder: real locks, in real processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from contextlib import ExitStack

import pytest

from ssl_lib import LARS, CheckpointError, ConfigError, Schedule, Trainer
from ssl_lib.training.callbacks import Callback
from ssl_lib.training.run_lock import check_unlocked, run_lock

ME = f"process {os.getpid()} on {socket.gethostname()}"


def fit(make_method, make_loader, folder, callback=None, resume=False):
    method = make_method("simclr")
    trainer = Trainer(folder, precision="fp32", device="cpu")
    trainer.callbacks = [*trainer.callbacks, *([callback] if callback else [])]
    optimizer = LARS(method.param_groups(0.0), lr=0.1)
    return trainer.fit(method, make_loader(), optimizer, Schedule(epochs=1), resume=resume)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_fit_is_refused_before_it_writes_and_one_after_another_is_not(make_method, make_loader, tmp_path):
    class Second(Callback):
        refused = 0

        def on_epoch(self, state):
            before = contents(tmp_path)
            for resume in (False, True):
                with pytest.raises(CheckpointError, match=f"{tmp_path} is being trained into by {ME}: wait"):
                    fit(make_method, make_loader, tmp_path, resume=resume)
            assert contents(tmp_path) == before
            Second.refused += 1

    fit(make_method, make_loader, tmp_path, Second())
    assert Second.refused == 1
    assert fit(make_method, make_loader, tmp_path, resume=True).finished


def test_a_run_that_failed_leaves_the_folder_free(make_method, make_loader, tmp_path):
    class Fail(Callback):
        def on_update(self, state):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(make_method, make_loader, tmp_path, Fail())
    check_unlocked(tmp_path)
    assert fit(make_method, make_loader, tmp_path).finished


def test_nothing_is_made_where_there_is_nothing_to_resume(make_method, make_loader, tmp_path):
    check_unlocked(tmp_path / "run")
    with pytest.raises(CheckpointError, match="no run at"):
        fit(make_method, make_loader, tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_folders_are_locked_each_for_itself(tmp_path):
    with run_lock(tmp_path / "a"), run_lock(tmp_path / "b"):
        for name in ("a", "b"):
            with pytest.raises(CheckpointError, match=f"/{name} is being trained into"):
                check_unlocked(tmp_path / name)
    with run_lock(tmp_path / "a"), run_lock(tmp_path / "b"):
        pass


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_has_no_part_in_the_lock(tmp_path):
    """That it leaves the context, too, frees nothing and closes no file of its own."""
    with ExitStack() as stack:
        stack.enter_context(run_lock(tmp_path))
        if (child := os.fork()) == 0:
            code = 1
            with contextlib.suppress(BaseException):
                others = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]  # they take the numbers that are free
                stack.close()
                for descriptor in others:
                    os.fstat(descriptor)
                code = 0
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(CheckpointError):
            check_unlocked(tmp_path)
    check_unlocked(tmp_path)


def test_without_locks_a_run_goes_on_and_says_so_once(tmp_path, monkeypatch, capsys):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")  # as NFS without a lock service

    monkeypatch.setattr(fcntl, "flock", unsupported)
    for _ in range(2):
        with run_lock(tmp_path):
            check_unlocked(tmp_path)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"warning: {tmp_path} is on a file system without locks (No locks available)")


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file: it is a file$"), run_lock(tmp_path / "file"):
        pass
