"""Makes characters that are not text visible, such as control codes and broken bytes in file names."""

from __future__ import annotations

import codecs
import re
from typing import Any

__all__ = ["ENCODING_ERRORS", "visible"]

ENCODING_ERRORS = "ssl_lib.visible"
"""Name of an error handler for encoders, which writes characters that cannot be encoded as `visible` does."""

_NOT_TEXT = re.compile("[\0-\b\v-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")
"""Control characters except tabs and line feeds, changes of the text direction, and what UTF-8 cannot encode."""


def visible(value: Any) -> Any:
    r"""Replaces characters that are not text by escapes, in a string or in all strings of JSON data.

    A byte of a file name that is not UTF-8 becomes `\xff`, the escape character `\x1b`, and a right-to-left override
    `\u202e`. Letters of all languages, spaces, quotes and backslashes are unchanged, and so are other values.
    """
    if isinstance(value, str):  # or Markup, which remains Markup
        return type(value)(_NOT_TEXT.sub(lambda match: _escape(match[0]), value)) if _NOT_TEXT.search(value) else value
    if isinstance(value, dict):
        return {visible(key): visible(entry) for key, entry in value.items()}
    return [visible(entry) for entry in value] if isinstance(value, list | tuple) else value


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's surrogate escape for an invalid byte
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escape, error.object[error.start : error.end])), error.end


codecs.register_error(ENCODING_ERRORS, _escape_unencodable)
