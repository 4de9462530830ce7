"""What the sections share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.run import Missing, Run

__all__ = ["legend", "missing", "note", "per_run", "run_style", "section", "style_of", "table"]

_STYLES = {"raw pixels": "raw", "random init": "random", "trained": "trained"}


def section(identity: str, title: str, about: Child, *children: Child) -> Html:
    """A part of the page under a heading, with a line that says what it shows."""
    head = tag("h2", title, id=f"{identity}-title")
    deck = tag("p", about, class_="deck") if about else None
    return tag("section", head, deck, *children, id=identity, aria_labelledby=f"{identity}-title")


def note(text: Child) -> Html:
    """A remark in the place of what is not there."""
    return tag("p", text, class_="note")


def missing(runs: Sequence[Run], part: str) -> list[Html]:
    """A note for every run that lacks a part; those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for run in runs:
        found = getattr(run, part)
        if isinstance(found, Missing):
            reasons.setdefault(found.reason, []).append(run.name)
    alone = len(runs) == 1
    return [note(reason if alone else f"{', '.join(names)}: {reason}") for reason, names in reasons.items()]


def per_run(runs: Sequence[Run], panels: Iterable[tuple[Run, Child]]) -> list[Html]:
    """A panel for each run, under its name where there are several."""
    several = len(runs) > 1
    return [tag("div", tag("h3", run.name) if several else None, panel, class_="run") for run, panel in panels]


def style_of(subject: str) -> str:
    """The CSS class of raw pixels, random weights and trained ones."""
    return _STYLES[subject]


def run_style(number: int) -> str:
    """The CSS class of a run beside others."""
    return f"run{number % 6}"


def legend(entries: Iterable[tuple[str, str]]) -> Html:
    """Names of curves, each with a piece of its line."""
    line = Html('<svg class="key" viewBox="0 0 28 8" aria-hidden="true"><path d="M0 4H28"/></svg>')
    items = [tag("li", tag("span", line, class_=f"curve {style}"), " ", title) for title, style in entries]
    return tag("ul", items, class_="legend")


def table(caption: Child, head: Sequence[Child], rows: Iterable[Sequence[Child]], class_: str | None = None) -> Html:
    """A table with a caption, whose first column and first row are headings; it scrolls by itself where it is wide."""
    top = tag("tr", [tag("th", cell, scope="col") for cell in head])
    lines = [tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest]) for first, *rest in rows]
    whole = tag("table", tag("caption", caption), tag("thead", top), tag("tbody", lines), class_=class_)
    return tag("div", whole, class_="wide", tabindex=0, role="group", aria_label="table, may scroll sideways")
