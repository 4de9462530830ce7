"""Parses a page of the report as a browser does."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from ssl_lib.cli.main import main

VOID = {"meta", "link", "br", "img", "col", "use", "wbr"}


class Page(HTMLParser):
    """Checks that elements are closed in order; collects texts, attributes and table cells."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag
        if tag in ("th", "td"):
            self.rows[-1][-1] = self.rows[-1][-1].strip()

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))
        if "table" in self.open and {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data.replace("\u00a0", " ")

    def text(self) -> str:
        """Returns the visible text with single spaces."""
        return " ".join(" ".join(data for tag, data in self.texts if tag not in ("script", "style")).split())

    def texts_in(self, tag: str) -> list[str]:
        """Returns the texts directly inside elements of a tag."""
        return [data for name, data in self.texts if name == tag]

    def curves(self) -> list[list[dict[str, list[float]]]]:
        """Returns the data of every chart, from which the script reads out values."""
        return [json.loads(a["data-curves"] or "") for _, a in self.elements if "data-curves" in a]


def read_page(path: Path) -> Page:
    """Parses an HTML file."""
    return Page(path.read_text(encoding="utf-8"))


def report_page(run: Path, *options: str) -> Page:
    """Runs `ssl-lib report` and parses the page."""
    target = run.parent / "report_under_test.html"
    assert main(["report", str(run), "--map", "pca", "-o", str(target), *options]) == 0
    return read_page(target)
