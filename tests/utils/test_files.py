"""Files that are whole or not there at all, and locks that no ended process keeps."""

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
def test_a_full_disk_is_an_error_that_names_the_file(write, tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, "a line\n")
    with full_disk(100), pytest.raises(OSError, match=r"too large: '.*/metrics\.jsonl'"):
        write(path, 200 * "x")
    assert path.read_text().startswith("a line\n")
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_told_beforehand(tmp_path):
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new" / "folder" / "a.json", "a.json")
    check_writable(tmp_path / "file", "a.json")
    with pytest.raises(ConfigError, match=r"file/a\.json cannot be written \(Not a directory\): name another"):
        check_writable(tmp_path / "file" / "a.json", "a.json")
    with pytest.raises(ConfigError, match=r"is a folder; give a file, such as .*/a\.json"):
        check_writable(tmp_path, "a.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_link_is_the_same_file_and_a_copy_where_there_can_be_none(tmp_path):
    source = tmp_path / "source"
    source.write_text("whole")
    link_or_copy(source, tmp_path / "link")
    assert (tmp_path / "link").samefile(source)
    with TemporaryDirectory(dir="/dev/shm") as elsewhere:  # on another file system
        if Path(elsewhere).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("all is one file system here")
        link_or_copy(source, Path(elsewhere) / "copy")
        assert [(path.name, path.read_text()) for path in Path(elsewhere).iterdir()] == [("copy", "whole")]


def hold(path: Path) -> None:
    with locked(path):
        print("held", flush=True)
        time.sleep(600)


def test_a_lock_holds_others_off_until_its_process_ends_even_by_a_kill(tmp_path):
    path = tmp_path / "cache" / ".download.lock"
    pipe, taken = tmp_path / "pipe", threading.Event()
    os.mkfifo(pipe)

    def take():
        with locked(path):
            taken.set()

    holder = fork(hold, path, out=pipe, err=tmp_path / "err")
    with open(pipe) as said:
        assert said.readline() == "held\n"
        waiting = threading.Thread(target=take, daemon=True)
        waiting.start()
        assert not taken.wait(0.2)
        holder.kill()
        assert taken.wait(60)
    assert path.exists()
    with locked(path):  # the file alone is no lock
        pass
