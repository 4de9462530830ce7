"""Printing to closed, missing, full and broken streams."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys

import pytest

from ssl_lib.utils.streams import robust_streams, write_to_stderr


def test_working_streams_print_everything_in_order(capfd):
    with robust_streams():
        print("a", file=sys.stderr, end="")
        write_to_stderr("b")
        print(os.fsdecode(b"c\xe9"), file=sys.stderr)
        print(os.fsdecode(b"d\xe9"))
        with robust_streams():
            print("e", file=sys.stderr)
    print("f", file=sys.stderr)
    assert capfd.readouterr() == ("d\\xe9\n", "abc\\xe9\ne\nf\n")


@pytest.mark.parametrize("name", ["/dev/full", "pipe", "closed"])
def test_messages_to_a_stderr_that_cannot_be_written_are_dropped(name):
    target, out = {"/dev/full": "/dev/full", "closed": os.devnull}.get(name), io.StringIO()
    if target is None:
        reader, target = os.pipe()
        os.close(reader)
    with open(target, "w") as broken:  # its end raises an error if the buffer holds unwritten text
        if name == "closed":
            broken.close()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(broken):
            with robust_streams():
                print("lost", file=sys.stderr, flush=True)
                assert not sys.stderr.isatty()
            assert sys.stderr is broken
    assert not out.getvalue()


def test_missing_streams_drop_their_output(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    with robust_streams():
        print("lost", flush=True)
        print("lost", file=sys.stderr, flush=True)
        assert not sys.stdout.isatty() and sys.stderr.encoding
    assert sys.stdout is sys.stderr is None
    assert capfd.readouterr() == ("", "")


def test_error_of_stdout_is_raised():
    with open("/dev/full", "w") as full, contextlib.redirect_stdout(full):
        with robust_streams(), pytest.raises(OSError, match="No space left"):
            print("a result", flush=True)
        with contextlib.suppress(OSError):
            full.close()


def test_file_does_not_get_the_number_of_a_closed_stream(tmp_path):
    """Otherwise code in C, and children, would print their messages into it."""
    script = f"""
import os, sys
from ssl_lib.utils.streams import robust_streams, write_to_stderr
with robust_streams():
    file = open({str(tmp_path / "file")!r}, "w")
    write_to_stderr("a message")
    os.system("echo another >&2")
    sys.exit(0 if file.fileno() > 2 else 1)
"""
    assert subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-c", script]).returncode == 0
    assert (tmp_path / "file").read_text() == ""
