"""Templates escape texts, and make characters visible that are not text."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from ssl_lib.cli.main import main
from ssl_lib.report.page import render_template
from ssl_lib.report.records import Missing, Run
from ssl_lib.utils.printable import visible
from tests.report.conftest import train
from tests.report.page import Page, read_page

MARKUP = "</script><script>alert(1)</script>\"'&"
NOT_TEXT = {  # by what the page shows
    "null": ("a\0b", "a\\x00b"),
    "escape": ("\x1b[31mred", "\\x1b[31mred"),
    "byte": (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
    "surrogate": ("a\ud800", "a\\ud800"),
    "separator": ("a\u2028b", "a\\u2028b"),
    "override": ("\u202egpj.exe", "\\u202egpj.exe"),
}


def environment_of(*values):
    """Returns the page's section of software versions, with values in its first column, and its source."""
    nothing = Missing("not part of this test")
    run = Run("a", Path("a"), nothing, nothing, nothing, nothing, nothing, nothing)
    source = render_template("environment", runs=[run], rows=[(value, [value]) for value in values])
    return Page(source), source


@pytest.mark.parametrize(("text", "shown"), NOT_TEXT.values(), ids=NOT_TEXT)
def test_characters_that_are_not_text_are_shown_as_escapes(text, shown):
    page, source = environment_of(text, MARKUP)
    assert page.rows[1:] == [[shown, shown], [MARKUP, MARKUP]]
    assert source.encode() and "<script" not in source
    assert visible({text: [text, 1, None, True, 1.5]}) == {shown: [shown, 1, None, True, 1.5]}


def test_text_of_any_script_is_unchanged():
    text = "ünï \u00a0 東京 \U0001f469\u200d\U0001f52c שלום\tמ\n"
    assert visible(text) is text


def data_script(value):
    """Returns the content of the page's script element with data."""
    content = {"headline": "", "figures": "", "news": "none"}
    page = {"style": "", "script": "", "digest": "", "version": "", "sheets": [], "sections": {}, "recipes": {}}
    source = render_template("page", runs=[], verdict=content, data=value, **page)
    return re.search(r'<script type="application/json" id="map-data">(.*)</script>\n<script></script>', source)[1]


def test_data_cannot_close_its_script_element():
    value = {MARKUP: ["<!--", "]]>", "é &", 1.5], "bad": [text for text, _ in NOT_TEXT.values()]}
    body = data_script(value)
    assert json.loads(body) == {**value, "bad": [shown for _, shown in NOT_TEXT.values()]}
    assert not set(body) & set("<>&\u2028") and body.encode()
    with pytest.raises(ValueError):
        data_script(math.nan)


def test_missing_variable_raises():
    with pytest.raises(UndefinedError, match="rows"):
        render_template("environment", runs=[])


def test_page_of_unusual_names_is_valid(patterns, tmp_path):
    """Class names, the run's folder and its config hold markup and characters that are not text."""
    classes = [MARKUP, *(text for text, _ in list(NOT_TEXT.values())[:3])]
    odd = tmp_path / "\udcffa<b>\x1b[1m"
    folder = Path(shutil.copytree(patterns, tmp_path / "images"))
    for part in ("train", "test"):
        (folder / part / "classes.json").write_text(json.dumps(classes))
    train(folder, tmp_path / "run")
    (tmp_path / "run").rename(odd)
    (odd / "environment.json").write_text(json.dumps({"device": NOT_TEXT["override"][0]}))
    assert main(["report", str(odd), "--map", "pca", "-o", str(tmp_path / "report.html")]) == 0
    page = read_page(tmp_path / "report.html")
    names = [visible(name) for name in classes]
    assert [text for text in page.texts_in("button") if text.strip()] == names
    assert list(json.loads(page.texts_in("script")[0])["0"]["names"].values()) == names
    assert ["device", "\\u202egpj.exe"] in page.rows and "\\xffa<b>\\x1b[1m" in page.text()
    assert sum(name == "script" for name, _ in page.elements) == 2
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\u2028-\u202e\ud800-\udfff]", source)
