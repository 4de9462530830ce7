"""Tests of `key=value` changes: from the text of the command line to a config."""

from __future__ import annotations

import pytest

from ssl_lib import ConfigError
from ssl_lib.cli.common import parse_changes
from ssl_lib.config.load import parse_config
from ssl_lib.config.resolve import resolve
from tests.config.helper import GOOD


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("lr=0.1", "optimizer.lr"),
        ("temperature=0.2", "method.temperature"),
        ("size=64", "views.size"),
        ("epochs=3", "schedule.epochs"),
        ("batch_size=3", "trainer.batch_size"),
        ("width=8", "backbone.width"),
        ("every_epochs=2", "evaluation.every_epochs"),
    ],
)
def test_bare_name_suggests_the_full_key(change, key):
    name = change.partition("=")[0]
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD, parse_changes([change]))
    assert str(caught.value) == f"unknown key {name!r}. Did you mean {key!r}?"


def test_bare_name_suggests_every_full_key_that_fits():
    values = {**GOOD, "backbone": "vit_micro"}
    with pytest.raises(ConfigError, match=r"Did you mean 'evaluation\.image_size' or 'backbone\.image_size'\?$"):
        parse_config(values, {"image_size": 64})


@pytest.mark.parametrize("change", ["data.root=2024", "data={name: image_folder, root: 2024}"])
def test_number_as_a_path_suggests_quotes(change):
    values = {**GOOD, "data": {"name": "image_folder"}}
    with pytest.raises(ConfigError, match=r"data\.root: expected .*text.*, got 2024 .*; in quotes it is text: '2024'"):
        resolve(parse_config(values, parse_changes([change])))
    quoted = resolve(parse_config(values, parse_changes([change.replace("2024", "'2024'")])))
    assert quoted.data.arguments["root"] == "2024"


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("1E-4", 1e-4), ("0.0001", 1e-4), ("1", 1.0), (".5", 0.5), ("1e+1", 10.0)]
)
def test_numbers_are_floats_in_every_notation(text, value):
    lr = resolve(parse_config(GOOD, parse_changes([f"optimizer.lr={text}"]))).optimizer.arguments["lr"]
    assert lr == value and type(lr) is float


def test_number_beyond_float_is_an_error():
    for text in ("1e400", "-1e400", "1" * 400, "0x" + "f" * 298):
        with pytest.raises(ConfigError, match="is too large"):
            parse_changes([f"optimizer.lr={text}"])


def test_value_may_contain_an_equals_sign():
    assert parse_changes(["data.root=a=b", "run_dir='c=d'"]) == {"data.root": "a=b", "run_dir": "c=d"}


def test_changes_are_applied_in_order_at_every_depth():
    texts = ["seed=3", "evaluation.knn.k=5", "method=byol", "method.momentum=0.9", "views.blur_p=0"]
    config = parse_config(GOOD, parse_changes(texts))
    assert (config.seed, config.evaluation.protocols["knn"]["k"], config.method.name) == (3, 5, "byol")
    config = resolve(config)
    assert config.method.arguments["momentum"] == 0.9
    assert all(view.blur_p == 0.0 for view in config.views)


def test_changes_leave_the_given_values_alone():
    values = {**GOOD, "evaluation": {"knn": {"k": 20}}}
    parse_config(values, {"evaluation.knn.k": 5, "method.temperature": 0.5})
    assert values["evaluation"] == {"knn": {"k": 20}} and values["method"] == {"name": "simclr", "temperature": 0.2}
