"""The progress bar: shown on a terminal only, and no error where stderr is missing or closed."""

from __future__ import annotations

import io
import sys

import pytest

from ssl_lib.utils.progress_bar import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stderr", [None, "closed", "file"])
def test_no_bar_and_no_error_without_a_terminal(stderr, monkeypatch):
    stream = {"closed": io.StringIO(), "file": io.StringIO()}.get(stderr)
    if stderr == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar(range(3), "title")) == [0, 1, 2]
    with progress_bar(total=5) as bar:
        bar.update(5)
    assert stderr != "file" or stream.getvalue() == ""


@pytest.mark.parametrize("show", [True, False])
def test_bar_on_a_terminal_can_be_turned_off(show, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress_bar(range(3), "title", show=show, leave=True)) == [0, 1, 2]
    assert ("title: 100%" in terminal.getvalue()) == show
