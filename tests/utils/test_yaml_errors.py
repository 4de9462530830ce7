"""Tests that YAML beyond plain values is an error with a short message, and costs no time."""

from __future__ import annotations

import itertools
import time

import pytest

from ssl_lib import ConfigError
from ssl_lib.utils.yaml import brief, parse_yaml


def error_of(text):
    """The message of the error that parsing a text raises."""
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "run.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["seed: [1", "a: b: c", '"\\q"', "\tx: 1", "--- a\n--- b", "a: \x00", "\ud800", "%YAML 3.0\n--- a", "..."],
    ids=ascii,
)
def test_text_that_is_not_yaml_is_an_error_that_names_the_source(text):
    message = error_of(text)
    assert message.startswith("run.yaml is not readable YAML: ") and "<unicode string>" not in message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("!!bool foo", "'foo' is not of type bool"),
        ("!!bool yes", "'yes' is not of type bool"),
        ("!!int ''", "'' is not of type int"),
        ("!!int 1.5", "'1.5' is not of type int"),
        ("!!float x", "'x' is not of type float"),
        ("!!null x", "'x' is not of type null"),
        ("!!int [1]", "a single value is expected here"),
        ("!!str {a: b}", "a single value is expected here"),
        ("!!str {!!value a: b}", "a single value is expected here"),
        ("!!map [1]", "a mapping is expected here"),
        ("!!map x", "a mapping is expected here"),
        ("!!seq {a: 1}", "expected a sequence node"),
    ],
)
def test_malformed_value_of_a_tag_is_an_error(text, problem):
    assert f"run.yaml is not readable YAML: {problem}" in error_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "!!timestamp foo",
        "!!timestamp 2024-01-01",
        "!!binary aGk=",
        "!!set {a}",
        "!!omap [a: 1]",
        "!!pairs [a: 1]",
        "!!merge x",
        "{!!merge <<: {a: 1}}",
        "!own 5",
        "!<tag:example.org,2024:x> 5",
        "!!python/name:os.system",
        "!!python/object/apply:os.system ['true']",
    ],
)
def test_other_tag_is_an_error(text):
    assert "the tag '" in error_of(text) and "is not supported" in error_of(text)


@pytest.mark.parametrize("text", ["a: &x [1]\nb: *x\n", "a: &x {b: 1}\nc: {<<: *x}\n", "&x [*x]", "*x"])
def test_alias_is_an_error(text):
    assert "aliases (*name) are not supported" in error_of(text)


def test_billion_laughs_is_refused_quickly():
    lines = [f"a: &a [{', '.join(['lol'] * 9)}]"]
    for last, name in itertools.pairwise("abcdefghi"):
        lines.append(f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]")
    start = time.perf_counter()
    assert "aliases" in error_of("\n".join(lines))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "{a: 1, b: {c: 1, c: 2}}", "'a': 1\na: 2", "1: a\n1: b", "{1: a, true: b}"]
)
def test_key_given_twice_is_an_error(text):
    assert "is given twice" in error_of(text)


@pytest.mark.parametrize("text", ["[1]: 2", "? {a: 1}\n: 2"])
def test_key_that_is_a_list_or_a_mapping_is_an_error(text):
    assert "a key must be a single value" in error_of(text)


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1" * 400, "-" + "9" * 309, "0x" + "f" * 298, "9" * 400 + ".5"])
def test_number_beyond_float_is_an_error(text):
    assert "is too large" in error_of(f"lr: {text}")


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000], ids=["lists", "items", "mappings"])
def test_deep_nesting_is_an_error(text):
    assert error_of(text) == "run.yaml is nested too deeply"


@pytest.mark.parametrize(
    "text",
    [
        "!!bool " + "x" * 5000,
        "!" + "x" * 5000 + " 1",
        "!" + "x" * 5000 + "!y 1",
        "9" * 5000,
        f"{{{'k' * 900}: 1, {'k' * 900}: 2}}",
        f"[&{'x' * 5000} 1, &{'x' * 5000} 2]",
        "*" + "x" * 5000,
        f"? {[1] * 5000}\n: 2",
    ],
    ids=lambda text: text[:10],
)
def test_values_in_messages_are_cut_at_200_characters(text):
    message = error_of(text)
    assert len(message) < 700
    assert max(map(len, message.split())) <= 200


def test_brief_cuts_at_200_characters():
    assert brief("x" * 198) == f"'{'x' * 198}'"
    assert brief("x" * 199) == f"'{'x' * 196}..." and len(brief("x" * 199)) == 200


def test_braces_inside_a_text_get_a_hint():
    assert "a text with braces needs quotes" in error_of("{urls: a/train-{0..9}.tar}")
    assert "quotes" not in error_of("data: {name: arrays")
