"""Standard streams that do not end a run: stderr may be closed, missing or full, and any file name can be printed."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, TextIO, cast

from ssl_lib.utils.printable import ENCODING_ERRORS

__all__ = ["robust_streams", "write_to_stderr"]


@contextlib.contextmanager
def robust_streams() -> Iterator[None]:
    """Makes printing safe inside this context.

    A message to stderr is dropped if stderr is closed, missing (`sys.stderr` is None), full, or a pipe without a
    reader. A missing stdout drops its output; other errors of stdout are raised. Characters that a stream cannot
    encode, such as broken bytes in a file name, are printed as `visible` shows them.
    """
    if None in (sys.__stdout__, sys.__stderr__):
        _open_closed_descriptors()
    with contextlib.ExitStack() as stack:
        if sys.stdout is None:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(_nowhere())))
        if sys.stderr is None:
            stack.enter_context(contextlib.redirect_stderr(stack.enter_context(_nowhere())))
        for stream in (sys.stdout, sys.stderr):
            stack.enter_context(_any_character(stream))
        if not isinstance(sys.stderr, _Lenient):
            stack.enter_context(contextlib.redirect_stderr(cast(TextIO, _Lenient(sys.stderr))))
        yield


def write_to_stderr(text: str) -> None:
    """Writes without Python's buffer, for signal handlers, which may interrupt a write to it; errors are ignored."""
    if sys.__stderr__ is not None:  # else the descriptor may belong to another file
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors=ENCODING_ERRORS))


class _Lenient:
    """A text stream that drops what cannot be written.

    Writes bypass the buffer: the content of a buffer that could not be flushed would change the exit code of Python.

    Args:
        stream: Another stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._raw = getattr(getattr(stream, "buffer", None), "raw", None)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed by Python code
            if self._raw is None:
                self._stream.write(text)
            else:
                self._stream.flush()
                encoding, errors = self._stream.encoding, self._stream.errors
                _write_all(self._raw, text.encode(encoding, errors or "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        try:
            return self._stream.isatty()
        except ValueError:  # closed
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _write_all(raw: io.RawIOBase, content: bytes) -> None:
    while content:
        written = raw.write(content)
        if not written:  # a pipe that does not block is full
            return
        content = content[written:]


def _nowhere() -> IO[str]:
    return open(os.devnull, "w", encoding="utf-8")


@contextlib.contextmanager
def _any_character(stream: IO[str]) -> Iterator[None]:
    """Lets a stream encode any character; other kinds of streams than Python's own are not changed."""
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    with contextlib.suppress(ValueError, OSError):  # closed, or full
        stream.reconfigure(errors=ENCODING_ERRORS)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, OSError):
            stream.reconfigure(errors=before)


def _open_closed_descriptors() -> None:
    """Opens closed standard descriptors, so that no other file gets their numbers and is printed into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)
            if found == number:
                os.set_inheritable(found, True)
            else:
                os.close(found)
