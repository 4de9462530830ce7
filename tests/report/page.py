"""A page of the report, read as a browser would."""

from __future__ import annotations

import json
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "col", "use", "wbr"}


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects texts, attributes and table cells."""

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

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))
        if "table" in self.open and {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data.replace("\u00a0", " ")

    def text(self) -> str:
        return " ".join(" ".join(data for place, data in self.texts if place not in ("script", "style")).split())

    def curves(self) -> list[list[dict[str, list[float]]]]:
        """Of every chart what its script reads out."""
        return [json.loads(a["data-curves"] or "") for _, a in self.elements if "data-curves" in a]
