"""The lock on a run's folder, which lets only one process at a time train into it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
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


def test_second_fit_is_refused_before_it_writes_unless_the_first_has_ended(make_method, make_loader, tmp_path):
    class FitAgain(Callback):
        refused = 0

        def on_epoch(self, state):
            before = contents(tmp_path)
            for resume in (False, True):
                with pytest.raises(CheckpointError, match=f"{ME} is training into {tmp_path}: wait"):
                    fit(make_method, make_loader, tmp_path, resume=resume)
            assert contents(tmp_path) == before
            FitAgain.refused += 1

    fit(make_method, make_loader, tmp_path, FitAgain())
    assert FitAgain.refused == 1
    assert fit(make_method, make_loader, tmp_path, resume=True).finished


def test_failed_run_releases_the_lock(make_method, make_loader, tmp_path):
    class Fail(Callback):
        def on_update(self, state):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(make_method, make_loader, tmp_path, Fail())
    check_unlocked(tmp_path)
    assert fit(make_method, make_loader, tmp_path).finished


def test_resume_without_a_run_creates_no_folder(make_method, make_loader, tmp_path):
    check_unlocked(tmp_path / "run")
    with pytest.raises(CheckpointError, match="no run at"):
        fit(make_method, make_loader, tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_locks_of_several_folders_are_independent(tmp_path):
    with run_lock(tmp_path / "a"), run_lock(tmp_path / "b"):
        for name in ("a", "b"):
            with pytest.raises(CheckpointError, match=f"is training into .*/{name}: wait"):
                check_unlocked(tmp_path / name)
    with run_lock(tmp_path / "a"), run_lock(tmp_path / "b"):
        pass


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_forked_process_does_not_hold_the_lock(tmp_path):
    """If it leaves the context, it releases nothing and closes none of its own files."""
    with ExitStack() as stack:
        stack.enter_context(run_lock(tmp_path))
        if (child := os.fork()) == 0:
            code = 1
            with contextlib.suppress(BaseException):
                others = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]  # they reuse free descriptors
                stack.close()
                for descriptor in others:
                    os.fstat(descriptor)
                code = 0
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(CheckpointError):
            check_unlocked(tmp_path)
    check_unlocked(tmp_path)


def test_file_system_without_locks_prints_one_warning(tmp_path, monkeypatch, capsys):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")  # like NFS without a lock service

    monkeypatch.setattr(fcntl, "flock", unsupported)  # filelock calls it
    for _ in range(2):
        with run_lock(tmp_path):
            check_unlocked(tmp_path)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"warning: {tmp_path} is on a file system without locks (No locks available)")


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file: it is a file$"), run_lock(tmp_path / "file"):
        pass


def test_lock_json_names_the_holder_only_while_the_folder_is_locked(tmp_path):
    with run_lock(tmp_path):
        holder = json.loads((tmp_path / ".lock.json").read_text())
        assert holder == {"process": os.getpid(), "host": socket.gethostname()}
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("kind", ["symbolic link", "dangling link", "hard link", "FIFO"])
def test_lock_that_is_a_link_or_a_fifo_is_refused_and_its_target_is_unchanged(kind, tmp_path):
    target, folder = tmp_path / "target", tmp_path / "run"
    folder.mkdir()
    if kind != "dangling link":
        target.write_text("precious")
        target.chmod(0o640)
    if kind == "hard link":
        os.link(target, folder / ".lock")
    elif kind == "FIFO":
        os.mkfifo(folder / ".lock")
    else:
        (folder / ".lock").symlink_to(target)
    before = describe(target), describe(folder / ".lock")
    with pytest.raises(ConfigError, match=r"\.lock is a link or not a regular file.* delete it"), run_lock(folder):
        pass
    assert (describe(target), describe(folder / ".lock")) == before
    assert [path.name for path in folder.iterdir()] == [".lock"]


def describe(path):
    """Type, permissions, inode, modification time and content of a file; None if there is none."""
    if not os.path.lexists(path):
        return None
    found = path.lstat()
    content = path.read_bytes() if path.is_file() else None
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, content
