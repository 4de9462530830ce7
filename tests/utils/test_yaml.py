"""Tests of reading YAML by the core schema of YAML 1.2."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from ssl_lib.utils.yaml import flat, parse_yaml
from tests.utils.yaml_values import CORE_SCHEMA, TEXTS, same

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("text", CORE_SCHEMA, ids=repr)
def test_plain_scalar_has_its_value_of_the_core_schema(text):
    assert same(parse_yaml(text, "run.yaml"), CORE_SCHEMA[text])
    assert same(parse_yaml(f"key: {text}", "run.yaml"), {"key": CORE_SCHEMA[text]})
    assert same(parse_yaml(f"[{text or '~'}, x]", "run.yaml"), [CORE_SCHEMA[text], "x"])


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_nan_is_a_float(text):
    assert math.isnan(parse_yaml(text, "run.yaml"))


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_other_plain_scalar_is_text(text):
    assert parse_yaml(f"key: {text}", "run.yaml") == {"key": text}


@pytest.mark.parametrize("text", [*filter(None, CORE_SCHEMA), ".nan"])
def test_quoted_scalar_is_text(text):
    assert parse_yaml(f"'{text}'", "run.yaml") == parse_yaml(f'"{text}"', "run.yaml") == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("!!str 5", "5"), ("!!float 5", 5.0), ("!!int '7'", 7), ("!!null ''", None), ("!!bool True", True)],
)
def test_tag_of_the_core_schema_sets_the_type(text, value):
    assert same(parse_yaml(text, "run.yaml"), value)


def test_merge_key_of_yaml_1_1_is_an_ordinary_key():
    assert parse_yaml("<<: {a: 1}", "run.yaml") == {"<<": {"a": 1}}


def test_large_and_small_numbers_are_exact():
    assert parse_yaml("9" * 300, "run.yaml") == int("9" * 300)
    assert parse_yaml("0x" + "f" * 250, "run.yaml") == 16**250 - 1
    assert parse_yaml("1e-400", "run.yaml") == 0.0
    assert parse_yaml("0." + "1" * 5000, "run.yaml") == 1 / 9


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_bundled_config_reads_as_pyyaml_reads_it(path):
    """PyYAML follows YAML 1.1, where `1e-4` is text; such texts are compared as numbers."""

    def assert_agree(ours, theirs):
        assert isinstance(theirs, str) or type(ours) is type(theirs)
        if isinstance(ours, dict):
            assert list(ours) == list(theirs)
            for key in ours:
                assert_agree(ours[key], theirs[key])
        elif isinstance(ours, list):
            for entry, other in zip(ours, theirs, strict=True):
                assert_agree(entry, other)
        else:
            assert ours == (type(ours)(theirs) if isinstance(theirs, str) else theirs)

    text = path.read_text(encoding="utf-8")
    assert_agree(parse_yaml(text, str(path)), yaml.safe_load(text))


def test_flat_joins_keys_with_dots_and_numbers_lists_of_mappings():
    nested = {"a": {"b": 1, "c": [1, 2]}, "views": [{"size": 8}, {"size": 9}], "empty": {}, "none": []}
    assert flat(nested) == {"a.b": 1, "a.c": [1, 2], "views[0].size": 8, "views[1].size": 9, "none": []}
