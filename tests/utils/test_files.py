"""Tests of atomic writes, links, and lock files."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ssl_lib import ConfigError
from ssl_lib.utils.files import append_text, check_writable, link_or_copy, locked, write_text
from tests.conftest import full_disk
from tests.fork_server import fork


@pytest.mark.parametrize("write", [write_text, append_text])
def test_error_on_a_full_disk_names_the_file(write, tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, "a line\n")
    with full_disk(100), pytest.raises(OSError, match=r"too large: '.*/metrics\.jsonl'"):
        write(path, 200 * "x")
    assert path.read_text().startswith("a line\n")
    assert list(tmp_path.iterdir()) == [path]


def test_check_writable_names_the_problem_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new" / "folder" / "a.json", "a.json")
    check_writable(tmp_path / "file", "a.json")
    with pytest.raises(ConfigError, match=r"file/a\.json cannot be written \(Not a directory\): name another"):
        check_writable(tmp_path / "file" / "a.json", "a.json")
    with pytest.raises(ConfigError, match=r"is a folder; give a file, such as .*/a\.json"):
        check_writable(tmp_path, "a.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_link_or_copy_copies_to_another_file_system(tmp_path):
    source = tmp_path / "source"
    source.write_text("whole")
    link_or_copy(source, tmp_path / "link")
    assert (tmp_path / "link").samefile(source)
    with TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if Path(elsewhere).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is on the same file system")
        link_or_copy(source, Path(elsewhere) / "copy")
        assert [(path.name, path.read_text()) for path in Path(elsewhere).iterdir()] == [("copy", "whole")]


def hold(path: Path) -> None:
    """Holds a lock until it is killed."""
    with locked(path):
        print("held", flush=True)
        time.sleep(600)


def test_lock_is_free_after_its_process_is_killed(tmp_path):
    path = tmp_path / "cache" / ".download.lock"
    pipe, taken = tmp_path / "pipe", threading.Event()
    os.mkfifo(pipe)

    def take():
        with locked(path):
            taken.set()

    holder = fork(hold, path, out=pipe, err=tmp_path / "err")
    with open(pipe) as output:
        assert output.readline() == "held\n"
        waiting = threading.Thread(target=take, daemon=True)
        waiting.start()
        assert not taken.wait(0.2)
        holder.kill()
        assert taken.wait(60)
    assert path.exists()
    with locked(path):  # the file alone is not a lock
        pass
