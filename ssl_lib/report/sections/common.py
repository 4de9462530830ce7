"""What the sections share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.run import Missing, Run

__all__ = [
    *("bar", "captioned", "class_name", "fold", "legend", "missing", "note", "per_run", "prose", "run_style"),
    *("scrolling", "section", "style_of", "table", "titled"),
]

_STYLES = {"raw pixels": "raw", "random init": "random", "trained": "trained"}


def section(identity: str, title: str, about: Child, *children: Child) -> Html:
    """A part of the page under a heading, with a line that says what it shows."""
    head = tag("h2", title, id=f"{identity}-title")
    deck = tag("p", about, class_="deck") if about else None
    return tag("section", head, deck, *children, id=identity, aria_labelledby=f"{identity}-title")


def fold(summary: Child, *children: Child, open_: bool = False) -> Html:
    """What is shown when its summary is clicked."""
    return tag("details", tag("summary", summary), *children, open=open_)


def note(text: str) -> Html:
    """A remark in the place of what is not there."""
    return tag("p", prose(text), class_="note")


def prose(text: str) -> list[Child]:
    """A text in which what stands between backticks is code."""
    return [tag("code", part) if place % 2 else part for place, part in enumerate(text.split("`"))]


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
    return _STYLES.get(subject, "trained")


def class_name(names: Sequence[str], label: int) -> str:
    """That of a label, or its number where it has none."""
    return names[label] if label < len(names) else f"class {label}"


def bar(share: float, text: Child, style: str) -> Html:
    """A figure with a bar beside it; `share` in [0, 1] is the bar's length."""
    width = f"--share:{min(max(share, 0.0), 1.0):.4g}"
    return tag("span", tag("span", text, class_="number"), tag("i", style=width), class_=f"bar {style}")


def run_style(number: int) -> str:
    """The CSS class of a run beside others."""
    return f"run{number % 6}"


def legend(entries: Iterable[tuple[str, str]]) -> Html:
    """Names of curves, each with a piece of its line."""
    line = Html('<svg class="key" viewBox="0 0 28 8" aria-hidden="true"><path d="M0 4H28"/></svg>')
    items = [tag("li", tag("span", line, class_=f"curve {style}"), " ", title) for title, style in entries]
    return tag("ul", items, class_="legend")


def titled(title: str, curves: Iterable[tuple[str, str]], about: Child = None) -> Html:
    """The caption of a chart of several curves: its title, where a pointer's values are read out, and the legend."""
    heading = tag("span", tag("strong", title), tag("output", aria_live="polite"), class_="chart-title")
    return tag("figcaption", heading, about, legend(curves))


def table(caption: Child, head: Sequence[Child], rows: Iterable[Sequence[Child]], class_: str | None = None) -> Html:
    """A table with a caption, whose first column and first row are headings; it scrolls by itself where it is wide."""
    top = tag("tr", [tag("th", cell, scope="col") for cell in head])
    lines = [tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest]) for first, *rest in rows]
    whole = tag("table", captioned(caption), tag("thead", top), tag("tbody", lines), class_=class_)
    return scrolling(whole, "table")


def captioned(caption: Child) -> Html:
    """A table's caption, which stays in the window where the table is wider."""
    return tag("caption", tag("span", caption))


def scrolling(whole: Html, what: str, class_: str = "") -> Html:
    """Something that may be wider than the window, and scrolls by itself."""
    names = f"wide {class_}".strip()
    return tag("div", whole, class_=names, tabindex=0, role="group", aria_label=f"{what}, may scroll sideways")
