"""The embeddings in the plane: images near one another are alike to the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.pictures import Sheet
from ssl_lib.report.projection import principal_components
from ssl_lib.report.run import Observed, Run
from ssl_lib.report.sections.common import class_name, missing, section

__all__ = ["embedding_map", "map_data"]

_WIDTH, _HEIGHT, _EDGE = 400, 330, 12
_COLORS = 10
_FORMS = (
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0Z",
    "M-2.9-2.9H2.9V2.9H-2.9Z",
    "M0-3.9L3.6 2.8H-3.6Z",
    "M0-4.1L4.1 0L0 4.1L-4.1 0Z",
    "M-1.3-3.8H1.3V-1.3H3.8V1.3H1.3V3.8H-1.3V1.3H-3.8V-1.3H-1.3Z",
)


def embedding_map(runs: Sequence[Run], private: bool) -> Html:
    """A map per run; of one run alone, one of random weights beside it. The page's script shows the images."""
    seen = [(number, run, run.observed) for number, run in enumerate(runs) if isinstance(run.observed, Observed)]
    sources = {observed.source for _, _, observed in seen}
    groups: dict[tuple[tuple[int, str], ...], list[Child]] = {}  # runs on other classes have a legend of their own
    for number, run, observed in seen:
        panels = groups.setdefault(tuple(_names(observed).items()), [])
        for title in ["trained", "random init"] if len(runs) == 1 else ["trained"]:
            heading = title if len(runs) == 1 else run.name
            besides = f", {observed.source}" if len(sources) > 1 else ""
            panels.append(_panel(number, observed, title, heading, besides))
    what = "its class and neighbors" if private else "it and its neighbors"
    about: list[Child] = [f"A mark per image; point at one to see {what}."]
    if seen:
        of = f" of {seen[0][2].source}" if len(sources) == 1 else ""
        about.append(f" {seen[0][2].projection} of the features{of}.")
    body = [
        tag("div", _legend(names), tag("div", panels, class_="maps"), class_="map") for names, panels in groups.items()
    ]
    marks = _symbols() if seen else None
    return section("map", "Map of the images", about, missing(runs, "observed"), marks, body)


def map_data(runs: Sequence[Run], sheets: dict[str, Sheet]) -> list[dict[str, Any] | None]:
    """By run, what the script tells of a mark: its class, its neighbors, and where its picture is."""
    found: list[dict[str, Any] | None] = []
    for run in runs:
        if not isinstance(run.observed, Observed):
            found.append(None)
            continue
        sample, sheet = run.observed.sample, sheets.get(run.name)
        found.append(
            {
                "labels": None if sample.labels is None else sample.labels.tolist(),
                "names": _names(run.observed),
                "neighbors": {t: run.observed.neighbors[t].tolist() for t in ("trained", "random init")},
                "sheet": None if sheet is None else [sheet.name, sheet.columns, sheet.rows],
            }
        )
    return found


def _names(observed: Observed) -> dict[int, str]:
    labels, names = observed.sample.labels, observed.sample.class_names
    present = [] if labels is None else labels.unique().tolist()
    return {label: class_name(names, label) for label in present}


def _symbols() -> Html:
    forms = [tag("path", id=f"m{number}", d=form) for number, form in enumerate(_FORMS)]
    return tag("svg", tag("defs", forms), class_="hidden", width=0, height=0, aria_hidden="true", focusable="false")


def _legend(names: Sequence[tuple[int, str]]) -> Html:
    """A button per class, which shows and hides its marks."""
    buttons = []
    for place, (label, name) in enumerate(names):
        shape, color = _look(place)
        mark = tag("svg", tag("use", href=shape), viewBox="-5 -5 10 10", class_=color, aria_hidden="true")
        buttons.append(tag("button", mark, name, type="button", aria_pressed="true", data_class=label))
    if not buttons:
        return tag("p", "The images have no labels: all marks are alike.", class_="note")
    return tag("div", buttons, class_="classes", role="group", aria_label="classes to show")


def _panel(number: int, observed: Observed, title: str, heading: str, besides: str) -> Html:
    places = _scaled(observed.places[title])
    labels = observed.sample.labels
    classes: list[int | None] = [*_names(observed)] or [None]
    groups = []
    for place, label in enumerate(classes):
        chosen = (
            range(len(places)) if labels is None else torch.nonzero(labels == torch.tensor(label)).flatten().tolist()
        )
        shape, color = _look(place)
        marks = [tag("use", href=shape, x=f"{places[i, 0]:.1f}", y=f"{places[i, 1]:.1f}", data_i=i) for i in chosen]
        groups.append(tag("g", marks, class_=color, data_class=label))
    about = f"Map of {observed.source}, {heading}, by {observed.projection}. Arrow keys go from image to image."
    ring = tag("circle", class_="ring", r=8, cx=-20, cy=-20)
    svg = tag(
        "svg", groups, ring, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=about, tabindex=0,
        data_run=number, data_subject=title, aria_describedby="tip",
    )  # fmt: skip
    return tag("figure", tag("figcaption", heading, besides), svg)


def _look(place: int) -> tuple[str, str]:
    """Shape and color of a class; 50 classes differ in one of them, and the ten colors of a round by five shapes."""
    return f"#m{(place + place // _COLORS) % len(_FORMS)}", f"c{place % _COLORS}"


def _scaled(places: Tensor) -> Tensor:
    """Turned so that they spread sideways, and into the frame; the outermost half percent is drawn at its edge."""
    places = principal_components(places, 2)
    cut = 0.005 if len(places) >= 200 else 0.0
    low, high = places.quantile(cut, dim=0), places.quantile(1 - cut, dim=0)
    frame = torch.tensor([_WIDTH, _HEIGHT], dtype=places.dtype)
    scale = ((frame - 2 * _EDGE) / (high - low).clamp_min(1e-12)).min()
    moved = (places - (low + high) / 2) * scale + frame / 2
    return torch.minimum(moved.clamp_min(_EDGE), frame - _EDGE)
