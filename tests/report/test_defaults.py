"""Default values of settings, and sources of recipes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from ssl_lib import METHODS
from ssl_lib.cli.common import bundled_configs, find_config
from ssl_lib.config.load import load_config, plain, to_yaml
from ssl_lib.config.resolve import resolve
from ssl_lib.report.page import render_template
from ssl_lib.report.records import Missing, Run
from ssl_lib.report.sections.settings import defaults_of, recipe_source, settings
from ssl_lib.utils.yaml import flat
from tests.report.page import Page


@pytest.mark.parametrize("name", [name for name, _ in bundled_configs()])
def test_bundled_config_differs_from_defaults_only_where_it_sets_a_value(name):
    """A setting that a bundled config omits equals its default; a different value is detected."""
    path = find_config(name)
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    resolved = resolve(load_config(path))
    schedule = resolved.schedule.scaled_for(METHODS[resolved.method.name])  # as in the config.yaml of a run
    config = yaml.safe_load(to_yaml(dataclasses.replace(resolved, schedule=schedule)))
    values, defaults = flat(config), defaults_of(config)
    changed = {key for key in defaults if key in values and values[key] != defaults[key]}
    for key in changed:
        section, _, rest = key.partition(".")
        if section.startswith("views["):
            preset = written["views"]
            known = isinstance(preset, list) or {rest, f"small_{rest}"} & set(preset)
            assert known or preset["preset"] != config["method"]["name"]
        else:
            assert section in written and (isinstance(written[section], int) or rest.split(".")[0] in written[section])
    for section in ("method", "optimizer", "backbone"):
        set_otherwise = {f"{section}.{key}" for key, value in flat(written[section]).items()} & set(defaults)
        assert {key for key in set_otherwise if values[key] != defaults[key]} == {
            key for key in changed if key.startswith(f"{section}.")
        }
    assert {f"views[{i}].flip_p" for i in range(len(config["views"]))} <= set(defaults)


def test_recipe_source_comes_from_the_docstring():
    assert recipe_source({"method": {"name": "byol"}}).startswith("Grill et al. 2020, arXiv:2006.07733")
    assert recipe_source({"method": {"name": "nobody's"}}) == recipe_source({}) == ""


def test_configuration_section_lists_the_differences_from_the_cited_source():
    config = plain(resolve(load_config(find_config("cifar10/vicreg"), {"optimizer.lr": 0.6})))
    missing = Missing("not part of this test")
    runs = [Run("a", Path("a"), config, missing, missing, missing, missing, missing)]
    text = Page(render_template("config", runs=runs, **settings(runs))).text()
    text = text.replace(". ", ".").replace("_ ", "_")  # places where a key may be broken
    assert "The recipe follows solo-learn, scripts/pretrain/cifar/vicreg.yaml" in text and "92.07 %" in text
    assert "method.variance_weight 50 25 the source adds the variance terms of the two views" in text
    assert "optimizer.lr 0.6 0.3 changed in this run" in text
    assert "stem padding - - 2 in the source" in text
    assert "source.values" not in text
    runs = [dataclasses.replace(runs[0], config={**config, "source": None})]
    assert "The recipe follows" not in Page(render_template("config", runs=runs, **settings(runs))).text()
