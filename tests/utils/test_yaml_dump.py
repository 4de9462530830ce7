"""Tests that values written as YAML read back equally."""

from __future__ import annotations

import pytest
import yaml

from ssl_lib.utils.yaml import dump_yaml, parse_yaml
from tests.utils.yaml_values import CHARACTERS, CORE_SCHEMA, NUMBERS, SPACES, SYNTAX, TEXTS, same

TRICKY = [*CORE_SCHEMA, ".nan", "017", *TEXTS, *SYNTAX, *SPACES, *CHARACTERS]


@pytest.mark.parametrize("text", TRICKY, ids=lambda text: ascii(text)[:30])
def test_written_text_reads_back_equally(text):
    for value in (text, [text], [text, text], {"key": text}, {text: 1, "b": [text, {text: text}]}):
        assert same(parse_yaml(dump_yaml(value), "run.yaml"), value)


@pytest.mark.parametrize("text", [*CORE_SCHEMA, *TEXTS])
def test_written_text_is_also_text_in_yaml_1_1(text):
    assert yaml.safe_load(dump_yaml([text])) == [text]


def test_written_numbers_and_collections_read_back_equally():
    collections = [[], {}, [[]], [{}], {"a": {}}, {"a": [[1], [2]]}, {2: "a", 2.5: "b", None: "c", True: "d"}]
    for value in (*NUMBERS, *collections, [*NUMBERS, *collections]):
        assert same(parse_yaml(dump_yaml(value), "run.yaml"), value)


def test_keys_keep_their_order():
    assert list(parse_yaml(dump_yaml({"b": 1, "a": 2, "c": 3}), "run.yaml")) == ["b", "a", "c"]


def test_object_used_twice_is_written_without_an_alias():
    shared = [1, {"a": 2}]
    assert parse_yaml(dump_yaml({"a": shared, "b": shared}), "run.yaml") == {"a": shared, "b": shared}
