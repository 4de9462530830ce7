"""Names of files are printed as they are, and what is not text as escapes."""

from __future__ import annotations

import os

import pytest

from ssl_lib.utils.printable import ENCODING_ERRORS, visible


@pytest.mark.parametrize("name", ["a b'c\"d.png", "Ärger 猫 😀.png", "back\\slash", "tab\tline\nend", "", "🏳️‍🌈"])
def test_text_is_not_changed(name):
    assert visible(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("gpj.\u202ea", r"gpj.\u202ea"),
        ("\ud800", r"\ud800"),
        ("bell\a\r", r"bell\x07\x0d"),
        ([{"a\0": ("\x9b", 1, None)}], [{r"a\x00": [r"\x9b", 1, None]}]),
    ],
)
def test_other_characters_become_escapes(name, expected):
    assert visible(name) == expected


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        (os.fsdecode(b"caf\xe9 \xc3\xa9"), "utf-8", b"caf\\xe9 \xc3\xa9"),
        ("é猫😀", "ascii", rb"\xe9\u732b\U0001f600"),
        ("é猫", "latin-1", b"\xe9\\u732b"),
    ],
)
def test_encoder_escapes_only_what_it_cannot_encode(text, encoding, expected):
    assert text.encode(encoding, ENCODING_ERRORS) == expected
