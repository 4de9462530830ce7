"""docs/methods.md, configs/README.md and README's table are generated, complete and agree with the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from ssl_lib import METHODS
from ssl_lib.memory import FeatureBank, FeatureQueue, memories
from tests.conftest import small_method

ROOT = Path(__file__).parent.parent


def load():
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCS = load()
PAGES = DOCS.generated()
METHODS_PAGE, CONFIGS_PAGE = (PAGES[ROOT / folder] for folder in ("docs/methods.md", "configs/README.md"))
ENTRIES = DOCS.facts()["methods"]
FIELDS = {"title", "loss", "batch", "choose", "formula", "failure"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_generated_file_is_up_to_date(path):
    """If this fails, run `python docs/generate.py`."""
    assert path.read_text(encoding="utf-8") == PAGES[path]


def test_every_method_and_no_other_has_an_entry_and_a_family():
    assert set(ENTRIES) == set(METHODS)
    families = DOCS.families()
    assert sorted(name for names in families.values() for name in names) == sorted(METHODS)
    assert all(METHODS[name].family == family for family, names in families.items() for name in names)


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_is_complete(name):
    entry = ENTRIES[name]
    assert FIELDS <= set(entry) <= FIELDS | {"memory"}
    assert all(isinstance(value, str) and value.strip() for value in entry.values())
    for cell in ("title", "loss", "batch", "choose"):
        assert "\n" not in entry[cell] and "|" not in entry[cell] and not entry[cell].endswith("."), cell
    assert max(map(len, entry["formula"].splitlines())) <= 120


@pytest.mark.parametrize("name", METHODS)
def test_memory_in_the_entry_is_what_the_method_keeps(name):
    method, text = small_method(name), ENTRIES[name].get("memory", "")
    assert ("teacher" in text) == bool(method.ema_pairs())
    kinds = {type(part) for part in memories(method)}
    assert ("queue" in text) == (FeatureQueue in kinds)
    assert ("bank" in text) == (FeatureBank in kinds)


@pytest.mark.parametrize("name", METHODS)
def test_section_has_source_formula_configs_and_signs_of_failure(name):
    section = METHODS_PAGE.split(f"### `{name}`\n")[1].split("\n### ")[0]
    assert "https://arxiv.org/abs/" in section and ENTRIES[name]["formula"].strip() in section
    assert re.search(rf"\*\*Configs:\*\* \[`\w+/{name}`\]", section)
    assert "**Signs of failure:** " + ENTRIES[name]["failure"].strip() in section


def test_results_are_those_of_the_results_page():
    found, page = DOCS.results(), (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for name in ("random init", "simclr", "byol"):
        knn, linear = found[name]
        assert f"| {name} | {knn} | {linear} |" in page
    row = next(line for line in METHODS_PAGE.splitlines() if line.startswith("| [SimCLR]"))
    assert row.endswith(f"| {' | '.join(found['simclr'])} |")
    assert "fashion_mnist" not in found and all(
        any(c.isdigit() for c in cell) for cells in found.values() for cell in cells
    )


def test_every_bundled_config_is_listed_with_its_published_result():
    for path in (ROOT / "configs").rglob("*.yaml"):
        name = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        (row,) = [line for line in CONFIGS_PAGE.splitlines() if line.startswith(f"| [`{name}`]")]
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert f"| {config['method']['name']} |" in row and f"| {config['schedule']['epochs']:g} |" in row
        assert config.get("source", {}).get("result", "") in row
